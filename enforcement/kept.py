"""What was read once is kept beside the store: until something that it rests on changes, traffic is not read again."""

import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from enforcement.course import Course
from enforcement.exposed import Exposed
from enforcement.exposure import Counts, Exposure
from enforcement.history import Period
from enforcement.pauses import Granted
from enforcement.policy import Policy
from enforcement.schema import (
    EXPOSURE_BY_SERVER,
    MAIL_BY_KIND,
    MAIL_BY_PAIR,
    PAUSES,
    RISK,
    SEGMENTS,
    SPELL_SPANS,
    STANDINGS,
    SUBJECT_PAIRS,
    TENANT_DECILES,
    TRAFFIC_BASE,
    Schema,
    conform,
)

# What of a policy the exposure rests on: everything but its stages, its words, and what is asked of the outcome.
_RESTS_ON: Final = {
    "count_private_updates", "routes", "rules", "minimum_builds", "cohorts", "window", "clear_after_days", "pause",
    "exemptions",
}  # fmt: skip
_RISK_RESTS_ON: Final = {"count_private_updates", "rules", "minimum_builds"}
_MOST_KEPT: Final = 40  # each some megabytes
_MOST_BY_SERVER: Final = 20  # of each of them
_COUNTS: Final[Schema] = {"cell": pl.Int64, "messages": pl.Int64}
_DAYS: Final[Schema] = {"day": pl.Date, "at_risk": pl.Boolean}
_GROUPS: Final[Schema] = {"product": pl.String, "decile": pl.Int8, "at_risk": pl.Boolean}
_TABLES: Final[Mapping[str, Schema]] = {
    "standings": STANDINGS, "pairs": SUBJECT_PAIRS, "spans": SPELL_SPANS, "segments": SEGMENTS, "granted": PAUSES,
    "ungranted": PAUSES, "risk": RISK, "mail": MAIL_BY_PAIR, "kinds": MAIL_BY_KIND, "base": TRAFFIC_BASE,
    "deciles": TENANT_DECILES, "days": _DAYS, "by_day": _COUNTS, "groups": _GROUPS, "by_group": _COUNTS,
}  # fmt: skip
_OURS: Final = re.compile("[0-9a-f]{64}")  # what a key looks like: other folders are somebody else's
_DIGEST_OCTETS: Final = 32  # before the Parquet: a hash of it, of its key and its name
_UNREADABLE: Final = (OSError, ValueError, pl.exceptions.PolarsError)


def key_of(policy: Policy, period: Period, rests_on: Mapping[str, str], *, risk_by: Policy | None = None) -> str:
    """Name what is exposed to a policy: the same as long as only stages change.

    `rests_on`: hashes of the traffic, the catalogue, the pauses and the program, and the last day known.
    """
    rules = rested_on(policy)
    risk = (risk_by or policy).model_dump(mode="json", by_alias=True, include=_RISK_RESTS_ON)
    told = json.dumps([rules, risk, [str(day) for day in period], dict(rests_on)], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()


def rested_on(policy: Policy) -> dict[str, Any]:
    """Give what of a policy its exposure rests on: policies alike in it are judged on the same."""
    return policy.model_dump(mode="json", by_alias=True, include=_RESTS_ON)


class Kept:
    """A folder of what was exposed to policies; whatever is damaged or missing in it is worked out anew.

    Without a folder everything is.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def exposed(self, key: str, period: Period, make: Callable[[], Exposed]) -> Exposed:
        """Give what is kept under a key, or make and keep it."""
        with suppress(*_UNREADABLE):
            found = _exposed({name: self._read(key, name, schema) for name, schema in _TABLES.items()}, period)
            _touch(self._place(key))
            return found
        made = make()
        self._write(key, _tables(made))
        return made

    def by_server(self, key: str, stage_starts: Sequence[int], make: Callable[[], pl.DataFrame]) -> pl.DataFrame:
        """Give EXPOSURE_BY_SERVER for stages that start on these clocks, or make and keep it."""
        digest = hashlib.sha256(json.dumps(list(stage_starts)).encode()).hexdigest()[:16]
        name = f"servers-{digest}"
        with suppress(*_UNREADABLE):
            kept = self._read(key, name, EXPOSURE_BY_SERVER)
            _touch(self._place(key), _file(self._place(key), name))
            return kept
        made = make()
        self._write(key, {name: made})
        return made

    def _read(self, key: str, name: str, schema: Schema) -> pl.DataFrame:
        content = _file(self._place(key), name).read_bytes()
        body = content[_DIGEST_OCTETS:]
        if content[:_DIGEST_OCTETS] != _digest(key, name, body):
            raise ValueError(f"{name}: not as it was written")
        return conform(pl.read_parquet(io.BytesIO(body)), schema, what=name)

    def _write(self, key: str, tables: Mapping[str, pl.DataFrame]) -> None:
        """Keep tables, each whole or not at all; where there is no room or no right to write, nothing is kept."""
        with suppress(OSError):
            place = self._place(key)
            place.mkdir(parents=True, exist_ok=True)
            for name, table in tables.items():
                body = io.BytesIO()
                table.write_parquet(body, compression_level=1)
                unfinished = place / f"{name}.{os.getpid()}"
                try:
                    unfinished.write_bytes(_digest(key, name, body.getbuffer()) + body.getbuffer())
                    unfinished.replace(_file(place, name))
                finally:
                    unfinished.unlink(missing_ok=True)
            for unused in _unused(place.glob("servers-*.kept"), _MOST_BY_SERVER):
                unused.unlink(missing_ok=True)
            ours = (other for other in place.parent.iterdir() if _OURS.fullmatch(other.name))
            for unused in _unused(ours, _MOST_KEPT):
                shutil.rmtree(unused, ignore_errors=True)

    def _place(self, key: str) -> Path:
        if self._folder is None:
            raise FileNotFoundError(key)
        return self._folder / key


def _file(place: Path, name: str) -> Path:
    return place / f"{name}.kept"


def _digest(key: str, name: str, body: bytes | memoryview) -> bytes:
    found = hashlib.sha256(f"{key}/{name}/".encode())
    found.update(body)
    return found.digest()


def _touch(*places: Path) -> None:
    """Note that something was used: the longest unused go first."""
    with suppress(OSError):
        for place in places:
            os.utime(place)


def _unused(places: Iterable[Path], most: int) -> list[Path]:
    """Give the longest unused of some places, beyond the most that are kept."""
    return sorted(places, key=lambda place: place.stat().st_mtime_ns, reverse=True)[most:]


def _tables(exposed: Exposed) -> dict[str, pl.DataFrame]:
    way, counted = exposed.course, exposed.exposure
    return {
        "standings": way.standings,
        "pairs": way.pairs,
        "spans": way.spans,
        "segments": way.segments,
        "granted": way.granted.pauses,
        "ungranted": way.granted.ungranted,
        "risk": exposed.risk,
        "mail": exposed.mail,
        "kinds": exposed.kinds,
        "base": exposed.base,
        "deciles": exposed.deciles,
        "days": counted.by_day.units,
        "by_day": pl.DataFrame({"cell": counted.by_day.cells, "messages": counted.by_day.messages}),
        "groups": counted.by_group.units,
        "by_group": pl.DataFrame({"cell": counted.by_group.cells, "messages": counted.by_group.messages}),
    }


def _exposed(tables: Mapping[str, pl.DataFrame], period: Period) -> Exposed:
    return Exposed(
        period=period,
        course=Course(
            standings=tables["standings"],
            pairs=tables["pairs"],
            spans=tables["spans"],
            segments=tables["segments"],
            granted=Granted(tables["granted"], tables["ungranted"]),
        ),
        risk=tables["risk"],
        mail=tables["mail"],
        kinds=tables["kinds"],
        base=tables["base"],
        deciles=tables["deciles"],
        exposure=Exposure(
            by_day=_counts(tables["days"], tables["by_day"]), by_group=_counts(tables["groups"], tables["by_group"])
        ),
    )


def _counts(units: pl.DataFrame, counted: pl.DataFrame) -> Counts:
    cells, messages = (np.asarray(counted[name]) for name in _COUNTS)
    return Counts(units=units, cells=cells, messages=messages)
