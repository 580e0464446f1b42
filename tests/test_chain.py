"""Real mail, from the archive to production and back: mail servers say what the model says, message by message."""

import importlib.util
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest
from chain import Mail, chosen, judged, mails_of, touched_pairs
from conftest import absent
from worlds import answer, run

from enforcement import shipped
from enforcement.export.exim_server import EximServer, Session, exim_program, exim_server
from enforcement.export.install import Act, install
from enforcement.export.postfix_server import PostfixServer, postfix_server
from enforcement.export.signing import make_key, public_path_of, read_public_key
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
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("keys") / "enforcement.key"
    make_key(made)
    return made


def installed(policy: str, day: date, setting: Setting, root: Path, key: Path) -> None:
    """Export a policy as of the day before, sign it, and install it on its day."""
    out = root.parent / f"{policy}-{day}"
    export_policy(policy, replace(setting, to_on=day - timedelta(days=1)), Order(out=out, key=key))
    act = Act(at=datetime.combine(day, time(), UTC), by="the test")
    install(out, root, act=act, key=read_public_key(public_path_of(key)))
    shutil.rmtree(out)


def by_postfix(server: PostfixServer, mails: list[Mail]) -> list[tuple[int, str]]:
    return list(server.replies([(Peer(mail.received), mail.sent_at) for mail in mails]))


def by_exim(server: EximServer, mails: list[Mail]) -> list[tuple[int, str]]:
    session, found = Session(server.port, "192.0.2.1"), []
    for mail in mails:
        server.clock.put(mail.sent_at)
        found.append(session.send(mail.received))
    session.close()
    return found


@pytest.fixture
def readable() -> Iterator[Path]:
    """A folder that mail servers, which are not root, may read."""
    with tempfile.TemporaryDirectory(prefix="enforcement-chain-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@dataclass(frozen=True)
class MailServer:
    """How a mail server is run on an installed export, sent mail, and what it must have."""

    run: Callable[[Path], AbstractContextManager[Any]]
    said: Callable[[Any, list[Mail]], list[tuple[int, str]]]
    log: Callable[[Any], Path]
    needs: Mapping[str, Callable[[], object]]


MAIL_SERVERS = {
    "Postfix": MailServer(
        run=postfix_server,
        said=by_postfix,
        log=lambda server: server.decisions,
        needs={
            "Postfix": lambda: shutil.which("postfix"),
            "milter library (make milter)": lambda: importlib.util.find_spec("Milter"),
        },
    ),
    "Exim": MailServer(run=exim_server, said=by_exim, log=lambda server: server.log, needs={"Exim": exim_program}),
}


def drifted(store: Path, log: Path) -> tuple[int, str]:
    assert run("import", log, "--store", store).returncode == 0
    done = run("drift", POLICY, "--store", store)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("name", MAIL_SERVERS)
def test_from_the_archive_to_production_and_back(
    store: Path, mails: dict[date, list[Mail]], key: Path, readable: Path, name: str
) -> None:
    """Each mail at its own minute, against the signed and installed export of the day before.

    Postfix says what `replay` says of the store cut at that day, except to servers first subject on that day, which
    are accepted and logged as new detections; its log, imported, is as expected. Another policy on the server is not.
    """
    mail_server = MAIL_SERVERS[name]
    for part, there in {
        **mail_server.needs, "root": lambda: os.geteuid() == 0, "libfaketime": lambda: shutil.which("faketime"),
    }.items():  # fmt: skip
        with suppress(LookupError):
            if there():
                continue
        absent(f"no {part} here")
    policy, setting, root = shipped.load_policy(POLICY), Setting(store=store), readable / "root"
    counted: Counter[Verdict] = Counter()
    n_first = 0
    installed(POLICY, next(iter(mails)), setting, root, key)
    with mail_server.run(root / "current") as server:
        for day, of_day in mails.items():
            installed(POLICY, day, setting, root, key)
            wanted = judged(store, policy, day, of_day)
            for mail, (code, text), (decision, is_first) in zip(
                of_day, mail_server.said(server, of_day), wanted, strict=True
            ):
                if is_first or decision.text is None:
                    assert code == 250, (mail, text)
                else:
                    assert f"{code} {text}" == decision.text, mail
                n_first += is_first
                counted[Verdict.ACCEPT if is_first else decision.verdict] += 1
        log = readable / "decisions.log"
        shutil.copy(mail_server.log(server), log)
    assert counted.total() == N_MAILS
    assert counted[Verdict.REJECT] >= 100
    assert counted[Verdict.DEFER] >= 20
    assert n_first > 0
    again = readable / "again.duckdb"
    shutil.copy(store, again)
    code, told = drifted(again, log)
    assert code == 0, told
    assert told.startswith("As expected: all 500 decisions are those of"), told

    # Another policy on the server, on the last of the days.
    day, of_day = list(mails.items())[-1]
    other = readable / "other"
    installed("stricter", day, setting, other, key)
    with mail_server.run(other / "current") as server:
        mail_server.said(server, of_day)
        shutil.copy(mail_server.log(server), readable / "other.log")
    shutil.copy(store, again)
    code, told = drifted(again, readable / "other.log")
    assert code == 1, told
    assert not told.startswith("As expected"), told
