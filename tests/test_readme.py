"""The README: its commands run, its pictures exist, its words are the code's words."""

import gzip
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import absent

from enforcement.builds import Evidence
from enforcement.guardrails import State
from enforcement.policy import Phase
from enforcement.policy_text import parse_policy
from enforcement.standing import Standing
from enforcement.verdict import Outcome, Verdict

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SET_UP, *WALKS = re.findall(r"^```sh\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)

# Words of the glossary whose meaning lists what they can be → the code's list.
CLOSED_SETS = {
    "evidence": Evidence,
    "standing": Standing,
    "phase": Phase,
    "verdict": Verdict,
    "outcome": Outcome,
    "guardrail": State,
}

# One mail of an archive, as the service that received it keeps it.
MAIL = """\
From - Thu Oct 29 10:03:02 2026
Received: from ex1.contoso.example (192.0.2.7) by in3.mail.example.net with ESMTPS id 4cX1;
 Thu, 29 Oct 2026 10:03:01 +0000
Received: from EX1.contoso.example (10.1.1.7) by EX1.contoso.example (10.1.1.7)
 with Microsoft SMTP Server (version=TLS1_2, cipher=TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384) id 15.1.2507.35;
 Thu, 29 Oct 2026 11:03:00 +0100
Date: Thu, 29 Oct 2026 11:02:59 +0100

"""


def _run(script: str, cwd: Path, **environment: str) -> str:
    """Run a script as a reader would in a terminal; return what it said."""
    inherited = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "MAKE", "VIRTUAL_ENV"))
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=cwd,
        env=inherited | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Give a copy of the project as it would be committed, in an empty folder."""
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        absent("not a git checkout, so what a clone would hold is not known")
    listed = _run("git ls-files --cached --others --exclude-standard -z", ROOT)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tmp_path / name)
    return tmp_path


def test_two_commands_are_all_it_takes(checkout: Path) -> None:
    """In an empty clone the two commands set up everything and write the pages; again, there is nothing to do."""
    if os.environ.get("CI") != "true":
        pytest.skip("installs all packages a second time; runs when CI=true")
    assert SET_UP.split("\n") == ["make report", "make test", ""]
    said = _run("make report", checkout)
    assert "setting up .venv" in said
    index = (checkout / "reports" / "index.html").read_text(encoding="utf-8")
    assert all(notebook.stem in index for notebook in (ROOT / "notebooks").glob("*.ipynb"))
    again = _run("make report", checkout)
    assert "setting up" not in again
    assert "making" not in again
    assert re.search(r"\d+ passed", _run("make test ARGS=tests/test_verdict.py", checkout))


def test_the_walks_run(checkout: Path) -> None:
    """Every command that the README shows after the set-up runs as it stands, in its order, and says what is shown."""
    (checkout / ".venv").symlink_to(sys.prefix)
    (checkout / "archive.mbox.gz").write_bytes(gzip.compress(MAIL.encode()))
    # The project in this virtual environment is the checkout that the tests run from, not the copy.
    said = _run("\n".join(WALKS), checkout, PYTHONPATH=str(checkout))
    shown = re.findall(r"^```text\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)
    assert shown
    for sentence in re.split(r"(?<=[.])\n", "".join(shown)):
        assert " ".join(sentence.split()) in " ".join(said.split())


def test_the_pictures_and_files_exist() -> None:
    """Every picture that the README shows, and every file that it names, is there."""
    shown = re.findall(r"!\[[^]]+\]\(([^)]+)\)", README)
    assert shown
    named = re.findall(r"`((?:data|tests|notebooks|reports)/[^` ]*)`", README)
    generated = {"reports/index.html"}
    assert [name for name in shown + named if name not in generated and not (ROOT / name).exists()] == []


def test_the_policy_shown_is_one() -> None:
    """The policy file that the README shows is complete."""
    (text,) = re.findall(r"^```toml\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)
    assert parse_policy(text, source="README.md").phases == (
        Phase.REPORT,
        Phase.THROTTLE,
        Phase.BLOCK_PARTLY,
        Phase.BLOCK_ALL,
    )


def test_the_glossary_uses_the_codes_words() -> None:
    """Where the glossary lists what something can be, the list is the code's, in its order."""
    meanings = dict(re.findall(r"^\| ([a-z -]+) \| (.*) \|$", README, flags=re.MULTILINE))
    for word, values in CLOSED_SETS.items():
        assert re.findall(r"`([^`]+)`", meanings[word]) == [value.value for value in values], word
