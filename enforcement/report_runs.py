"""Runs of reports: what each rests on, its folder and record, and the page of one that could not write its own."""

import base64
import fcntl
import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from html import escape
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from enforcement import __version__, shipped
from enforcement.names import printable
from enforcement.provenance import fingerprint
from enforcement.report_parameters import NOTEBOOKS, Asked, policies_of

PAGE_NAME: Final = "page.html"
RECORD_NAME: Final = "run.json"
INDEX_NAME: Final = "index.html"
CODE: Final = Path(__file__).parent
TEMPLATE: Final = CODE / "page"
_LOCK_NAME: Final = ".lock"
_ID_LENGTH: Final = 12  # hexadecimal digits: 48 bits, enough for all runs of a folder
# What a page's numbers and looks may depend on beside our own code.
_LIBRARIES: Final = ("altair", "duckdb", "narwhals", "nbconvert", "numpy", "papermill", "polars", "vl-convert-python")
# Errors that say what is wrong with the input; where they come from says nothing to a reader.
EXPECTED_ERRORS: Final = (
    "ValueError",
    "LookupError",
    "ParameterError",
    "StoreError",
    "PolicyError",
    "ExportError",
    "RefusedError",
)
_KILLED: Final = "the program that ran it is gone (it was killed, or the machine was switched off)"


class State(StrEnum):
    """How a run stands."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run before it runs: what it rests on, and the id that follows from that."""

    name: str
    asked: Asked
    inputs: Mapping[str, Any]
    run: str
    folder: Path

    @property
    def page(self) -> Path:
        """Where its page is written."""
        return self.folder / PAGE_NAME


def plan(name: str, asked: Asked, out: Path) -> Plan:
    """Hash what a run rests on: notebook, code, libraries, parameters, policies, assumptions, catalogue, traffic."""
    inputs: dict[str, Any] = {
        "notebook": _sha256((NOTEBOOKS / f"{name}.ipynb").read_bytes()),
        "code": shipped.program_hash(),
        "versions": versions(),
        # `run` names the run itself; the store is told by what it holds, wherever it lies.
        "parameters": asked.model_dump(mode="json", exclude={"store", "run"}),
        "files": {use: _sha256(path.read_bytes()) for use, path in asked.files.items()},
        "catalogue": {path.name: _sha256(path.read_bytes()) for path in shipped.catalogue_files()},
        "traffic": fingerprint(asked.store_path),
    }
    told = json.dumps([name, inputs], sort_keys=True).encode()
    run = _sha256(told)[:_ID_LENGTH]
    return Plan(name=name, asked=asked, inputs=inputs, run=run, folder=out / name / run)


def versions() -> dict[str, str]:
    """Give the versions that a page may depend on."""
    return {"enforcement": __version__, "python": platform.python_version()} | {
        name: metadata.version(name) for name in _LIBRARIES
    }


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a run's folder against other programs and threads; whoever comes second waits."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK_NAME).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_held(folder: Path) -> bool:
    """Tell whether somebody runs this: the lock of a program that is gone is free."""
    try:
        with (folder / _LOCK_NAME).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def read_record(folder: Path) -> dict[str, Any] | None:
    """Read a run's record; None: there is none that can be read."""
    try:
        record = json.loads((folder / RECORD_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("state") in set(State) else None


def started(planned: Plan) -> dict[str, Any]:
    """Write the record of a run that begins."""
    record = {
        "run": planned.run,
        "name": planned.name,
        "state": str(State.RUNNING),
        "error": None,
        "parameters": planned.asked.model_dump(mode="json"),
        "policies": [policy.name for policy in policies_of(planned.asked)],
        "inputs": dict(planned.inputs),
        "imports": _imports(planned),
        "started_at": now(),
        "process": os.getpid(),
        "answer": None,
        "figures": [],
        "mailed_at": None,
        "seconds": None,
        "peak_memory_bytes": None,
    }
    write_record(planned.folder, record)
    return record


def _imports(planned: Plan) -> list[dict[str, Any]]:
    from enforcement.store import open_store  # noqa: PLC0415 - an unchanged run is answered without it

    with open_store(planned.asked.store_path) as store:
        columns = ("import_id", "source", "sha256", "options", "rows_stored", "rows_rejected")
        return store.imports().select(columns).to_dicts()


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write a run's record in one step."""
    write_whole(folder / RECORD_NAME, json.dumps(record, indent=2, ensure_ascii=False, default=str) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Write a file in one step: whoever reads it sees the old or the new one, never a half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def now() -> str:
    """Give the time, in UTC, as records write it."""
    return datetime.now(tz=UTC).isoformat(timespec="seconds")


def all_records(out: Path) -> list[tuple[Path, dict[str, Any]]]:
    """List the folders and records of all runs, the newest first; one whose program is gone has failed."""
    found = []
    for path in out.glob(f"*/*/{RECORD_NAME}"):
        record = read_record(path.parent)
        if record is None:
            continue
        if record["state"] == State.RUNNING and not _is_held(path.parent):
            record |= {"state": str(State.FAILED), "error": _KILLED}
            write_record(path.parent, record)
            write_whole(path.parent / PAGE_NAME, killed_page(record))
        found.append((path.parent, record))
    return sorted(found, key=lambda each: (str(each[1].get("started_at")), each[0].name), reverse=True)


def prune(out: Path, keep: int, *, is_dry: bool = False, to_come: Collection[str] = ()) -> list[str]:
    """Remove all but the newest runs of each name, and name what was removed.

    A run that is running stays, and so does the newest that is done, however many have failed since. A dry run removes
    nothing, and counts the runs of the names `to_come` as if they had been made and done.
    """
    seen = Counter(to_come)
    has_done = set(to_come)
    removed = []
    for folder, record in all_records(out):
        name = folder.parent.name
        seen[name] += 1
        is_last_done = record["state"] == State.DONE and name not in has_done
        if record["state"] == State.DONE:
            has_done.add(name)
        if seen[name] <= keep or is_last_done or _is_held(folder):
            continue
        if not is_dry:
            shutil.rmtree(folder)
        removed.append(f"{name}/{folder.name}")
    return removed


def text(value: object) -> str:
    """Write a value as text of a page: nothing in it is markup, and no control character is left."""
    return escape(printable(str(value)))


def script_hash(script: str) -> str:
    """Give the hash by which a page's content policy allows a script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


# Nothing comes from another host, and no script runs but those whose hashes are listed.
CONTENT_POLICY: Final = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {scripts}; "
    "base-uri 'none'; form-action 'none'"
)
HEAD: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
"""
_KILLED_PAGE: Final = (
    HEAD
    + """<title>{name}: failed</title>
<style>{style}</style>
</head>
<body><main>
<h1>{name}</h1>
<p class="failure"><b>This run failed:</b> {error}.</p>
<p>It began at {started_at} with the parameters below. Run it again: <code>enforcement report {name}</code></p>
<pre>{parameters}</pre>
</main></body>
</html>
"""
)


def killed_page(record: Mapping[str, Any]) -> str:
    """Write the page of a run that could not write its own."""
    return _KILLED_PAGE.format(
        policy=CONTENT_POLICY.format(scripts="'none'"),
        style=(TEMPLATE / "page.css").read_text(encoding="utf-8"),
        name=text(record.get("name")),
        error=text(record.get("error")),
        started_at=text(record.get("started_at")),
        parameters=escape(json.dumps(record.get("parameters"), indent=2, ensure_ascii=True)),
    )
