"""The manifest of an export: what is in it, since when it holds, until when, and who chose it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

MANIFEST_NAME: Final = "manifest.json"
_FORMAT: Final = 1
_LARGEST_REVISION: Final = 99


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where an export comes from; `run` is the report run that chose the policy, if one did."""

    policy: str
    as_of: date
    not_after: date
    revision: int
    guardrails: list[dict[str, Any]]
    override: str | None
    run: str | None
    inputs: Mapping[str, str]  # what was read → its SHA-256


def serial(as_of: date, revision: int) -> int:
    """Give an export a number that grows: its day and a revision of two digits, as DNS zones have it.

    >>> serial(date(2026, 11, 23), 1)
    2026112301
    """
    if not 0 <= revision <= _LARGEST_REVISION:
        raise ValueError(f"revision = {revision} (expected 0 to {_LARGEST_REVISION})")
    return int(f"{as_of:%Y%m%d}{revision:02}")


def serial_day(serial: int) -> date | None:
    """Give the day that an export of this serial is made as of; None: it is no serial.

    >>> serial_day(2026112301), serial_day(2026130001)
    (datetime.date(2026, 11, 23), None)
    """
    day = serial // 100
    try:
        return date(day // 10_000, day // 100 % 100, day % 100)
    except ValueError:
        return None


def manifest(files: Mapping[str, bytes], origin: Origin) -> bytes:
    """Write the manifest of files, name → content; the same files and origin give the same bytes."""
    content = {
        "format": _FORMAT,
        "policy": origin.policy,
        "serial": serial(origin.as_of, origin.revision),
        "as_of": origin.as_of.isoformat(),
        "valid_from": (origin.as_of + timedelta(days=1)).isoformat(),
        "not_after": origin.not_after.isoformat(),
        "guardrails": origin.guardrails,
        "override": origin.override,
        "run": origin.run,
        "inputs": dict(origin.inputs),
        "files": {
            name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
            for name, content in files.items()
        },
    }
    return canonical(content)


def canonical(content: object) -> bytes:
    r"""Write JSON in its one form: sorted keys, two spaces, LF, UTF-8.

    >>> canonical({"b": 1, "a": date(2026, 1, 1)})
    b'{\n  "a": "2026-01-01",\n  "b": 1\n}\n'
    """
    return (json.dumps(content, sort_keys=True, indent=2, ensure_ascii=False, default=str) + "\n").encode()
