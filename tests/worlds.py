"""Small worlds for tests: messages in a real store, and a run of the command line."""

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from enforcement.importers.batch import Batch
from enforcement.schema import HANDOVERS, REJECTS, SIGHTINGS
from enforcement.store import create_store


def store_of(path: Path, rows: Sequence[tuple[str, str, str | None]], *, route: str = "direct") -> Path:
    """Make a store of hand-overs: time, server, build."""
    handovers = pl.DataFrame(
        [(datetime.fromisoformat(when), server, build, None, "smtp", route, 1) for when, server, build in rows],
        schema=dict(HANDOVERS),
        orient="row",
    )
    batch = Batch(
        handovers=handovers,
        sightings=pl.DataFrame(schema=dict(SIGHTINGS)),
        rejects=pl.DataFrame(schema=dict(REJECTS)),
        rows_read=len(rows),
    )
    with create_store(path) as store:
        store.add(source="rows of a test", sha256=str(rows), options={}, batches=[batch])
    return path


def run(*arguments: str | Path, cwd: Path | None = None, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command as a user does: a process of its own, forked off one that has read the modules already."""
    words = [str(argument) for argument in arguments]
    with tempfile.TemporaryDirectory(prefix="enforcement-run-") as name:
        files = [Path(name) / part for part in ("in", "out", "err")]
        files[0].write_text(stdin or "")
        env = os.environ | {"NO_COLOR": "1"}
        process = _FORKS.Process(target=_be_the_command, args=(words, str(cwd or Path.cwd()), dict(env), files))
        process.start()
        process.join(120)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(words, 120)
        said = [path.read_text(encoding="utf-8") if path.exists() else "" for path in files[1:]]
        return subprocess.CompletedProcess(words, process.exitcode, *said)


_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["enforcement.__main__"])


def _be_the_command(words: list[str], cwd: str, env: dict[str, str], files: list[Path]) -> None:
    """Take the place of a program that has just been started."""
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    for number, path in enumerate(files):
        opened = os.open(path, os.O_CREAT | (os.O_WRONLY if number else os.O_RDONLY), 0o600)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = os.fdopen(0, "r", encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)
    sys.argv = ["enforcement", *words]
    from enforcement.__main__ import main  # noqa: PLC0415 - tests need the command in its own process alone

    main()


def answer(*arguments: str | Path) -> Any:
    """Run a command that must succeed, and read its JSON."""
    done = run(*arguments, "--format", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(*arguments: str | Path, cwd: Path | None = None) -> str:
    """Run a command that must be refused in one clear line, and give the line."""
    done = run(*arguments, cwd=cwd)
    assert done.returncode == 2, (done.returncode, done.stdout, done.stderr)
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]
