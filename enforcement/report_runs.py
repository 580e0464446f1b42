"""Runs of reports: what each rests on, its record, and the index of them all."""

import fcntl
import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping
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
        "started_at": _now(),
        "process": os.getpid(),
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


def _now() -> str:
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


def prune(out: Path, keep: int) -> list[str]:
    """Remove all but the newest runs of each name, and name what was removed; a run that is running stays."""
    seen: dict[str, int] = {}
    removed = []
    for folder, record in all_records(out):
        seen[folder.parent.name] = seen.get(folder.parent.name, 0) + 1
        if seen[folder.parent.name] > keep and record["state"] != State.RUNNING:
            shutil.rmtree(folder)
            removed.append(f"{folder.parent.name}/{folder.name}")
    return removed


def write_index(out: Path) -> Path:
    """Write the page that lists all runs."""
    out.mkdir(parents=True, exist_ok=True)
    with held(out):
        rows = "".join(_row(folder.relative_to(out), record) for folder, record in all_records(out))
        style = (TEMPLATE / "page.css").read_text(encoding="utf-8")
        write_whole(
            out / INDEX_NAME, _INDEX.format(policy=CONTENT_POLICY.format(scripts="'none'"), style=style, rows=rows)
        )
    return out / INDEX_NAME


def _row(folder: Path, record: Mapping[str, Any]) -> str:
    state = str(record["state"])
    cells = (
        f'<a href="{escape(folder.as_posix())}/{PAGE_NAME}">{_text(record.get("name"))}</a>',
        ", ".join(_text(policy) for policy in record.get("policies") or ()),
        f'<span class="state {state}">{state}</span>'
        + (f"<br><small>{_text(str(record.get('error')).splitlines()[0])}</small>" if record.get("error") else ""),
        _text(str(record.get("started_at", "")).replace("T", " ").replace("+00:00", " UTC")),
        _seconds(record.get("seconds")),
        f"<code>{_text(folder.name)}</code>",
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>\n"


def _text(value: object) -> str:
    return escape(printable(str(value)))


def _seconds(value: object) -> str:
    return f"{value:.1f}\N{NO-BREAK SPACE}s" if isinstance(value, int | float) else ""


# Nothing comes from another host, and no script runs but those whose hashes are listed.
CONTENT_POLICY: Final = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {scripts}; "
    "base-uri 'none'; form-action 'none'"
)
_HEAD: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
"""
_INDEX: Final = (
    _HEAD
    + """<title>Reports of the enforcement workbench</title>
<style>{style}</style>
</head>
<body><main>
<h1>Reports</h1>
<p>Every run, the newest first. A page works without a network; its folder holds its record, its tables and the
notebook that made it.</p>
<figure class="table"><div class="scroll" tabindex="0"><table>
<thead><tr><th>report</th><th>policies</th><th>state</th><th>started</th><th>took</th><th>run</th></tr></thead>
<tbody>
{rows}</tbody></table></div></figure>
</main></body>
</html>
"""
)
_KILLED_PAGE: Final = (
    _HEAD
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
        name=_text(record.get("name")),
        error=_text(record.get("error")),
        started_at=_text(record.get("started_at")),
        parameters=escape(json.dumps(record.get("parameters"), indent=2, ensure_ascii=True)),
    )
