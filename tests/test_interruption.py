"""Ctrl-C ends a command, also where a library swallows it or calls it something else."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from worlds import refused, run, store_of

_INTERRUPTED = """
    import os, signal, sys
    from enforcement import __main__, workbench

    how = sys.argv.pop(1)
    whole = workbench.replay_policies

    def interrupted(*arguments, **options):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(10**6):
                pass
        except KeyboardInterrupt:
            if how == "an engine's error":
                raise RuntimeError("Query interrupted") from None
        return whole(*arguments, **options)

    workbench.replay_policies = interrupted
    __main__.main()
"""


@pytest.mark.parametrize("how", ["an engine's error", "swallowed"])
def test_an_interrupt_is_never_lost(how: str, tmp_path: Path) -> None:
    """The command ends as interrupted: no fault of this program, and no answer after all."""
    store = store_of(tmp_path / "t.duckdb", [("2026-03-01T10:00", "mx.a.example", "15.1.2507.6")])
    arguments = [how, "replay", "ninety-days", "--store", str(store)]
    program = [sys.executable, "-c", textwrap.dedent(_INTERRUPTED), *arguments]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.splitlines() == [
        "enforcement: interrupted; what was in work is not stored, what was done before is"
    ]


@pytest.mark.parametrize("out", ["", "file", "file/below"])
def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_read(out: str, tmp_path: Path) -> None:
    """There is no store either: what is told is the folder."""
    (tmp_path / "file").touch()
    place = str(tmp_path / out) if out else ""
    for command in ("replay", "rollout"):
        told = refused(command, "ninety-days", "--store", tmp_path / "none.duckdb", "--out", place)
        assert "'--out'" in told


def test_a_folder_for_answers_is_made(tmp_path: Path) -> None:
    """With those above it."""
    store = store_of(tmp_path / "t.duckdb", [("2026-03-01T10:00", "mx.a.example", "15.1.2507.6")])
    assert run("replay", "ninety-days", "--store", store, "--out", tmp_path / "a" / "b").returncode == 0
    assert (tmp_path / "a" / "b" / "ninety-days").is_dir()
