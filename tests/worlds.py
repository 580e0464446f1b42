"""Small worlds for tests: messages in a real store, and a run of the command line."""

import json
import os
import subprocess
import sys
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
    """Run a command as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "enforcement", *map(str, arguments)],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | {"NO_COLOR": "1"},
    )


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
