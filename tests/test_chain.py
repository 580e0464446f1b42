"""Real mail, from the archive to production and back: mail servers say what the model says, message by message."""

import importlib.util
import json
import os
import shutil
from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import pytest
from chain import Mail, chosen, judged, mails_of, touched_pairs
from conftest import absent
from worlds import answer

from enforcement import shipped
from enforcement.export.postfix_server import postfix_server
from enforcement.export.target import Peer
from enforcement.exporting import Order, export_policy
from enforcement.verdict import Verdict
from enforcement.workbench import Setting

POLICY = "ninety-days"
N_MAILS, N_DAYS = 500, 30


@pytest.fixture(scope="module")
def store(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("chain") / "traffic.duckdb"
    answer("import", real_data / "mail-sample.mbox.gz", "--store", made)
    return made


@pytest.fixture(scope="module")
def mails(store: Path, real_data: Path) -> dict[date, list[Mail]]:
    policy = shipped.load_policy(POLICY)
    every = list(mails_of(real_data / "mail-sample.mbox.gz"))
    return chosen(every, touched_pairs(store, policy), n_mails=N_MAILS, n_days=N_DAYS)


@pytest.fixture(scope="module")
def exports(store: Path, mails: dict[date, list[Mail]], tmp_path_factory: pytest.TempPathFactory) -> dict[date, Path]:
    """An export as of the day before each day of the mails."""
    folder = tmp_path_factory.mktemp("exports")
    made = {}
    for day in mails:
        export_policy(POLICY, Setting(store=store, to_on=day - timedelta(days=1)), Order(out=folder / f"{day}"))
        made[day] = folder / f"{day}"
    return made


def test_postfix_says_what_the_model_says(
    store: Path, mails: dict[date, list[Mail]], exports: dict[date, Path], tmp_path: Path
) -> None:
    """Each mail at its own minute; servers first subject on its day are accepted and logged."""
    for part, there in (
        ("Postfix", shutil.which("postfix")), ("root", os.geteuid() == 0),
        ("the milter library (make milter)", importlib.util.find_spec("Milter")),
        ("libfaketime", shutil.which("faketime")),
    ):  # fmt: skip
        if not there:
            absent(f"no {part} here")
    policy = shipped.load_policy(POLICY)
    current, moved = tmp_path / "current", tmp_path / "moved"
    current.symlink_to(next(iter(exports.values())))
    said: Counter[Verdict] = Counter()
    n_first = 0
    with postfix_server(current) as server:
        for day, of_day in mails.items():
            moved.symlink_to(exports[day])
            moved.rename(current)
            replies = server.replies([(Peer(mail.received), mail.sent_at) for mail in of_day])
            wanted = judged(store, policy, day, of_day)
            for mail, (code, text), (decision, is_first) in zip(of_day, replies, wanted, strict=True):
                if is_first:
                    assert code == 250, (mail, text)
                    n_first += 1
                elif decision.text is None:
                    assert code == 250, (mail, text)
                    said[Verdict.ACCEPT] += 1
                else:
                    assert f"{code} {text}" == decision.text, mail
                    said[decision.verdict] += 1
        logged = [json.loads(line) for line in server.decisions.read_text().splitlines()]
    assert sum(said.values()) + n_first == N_MAILS
    assert said[Verdict.REJECT] >= 100
    assert said[Verdict.DEFER] >= 20
    assert len(logged) == N_MAILS
    print(said, n_first, Counter(each["reason"] for each in logged))
