"""Mail (mbox, single messages, Maildir, packed or not): hand-overs, sightings, and what had to be rejected."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeAlias

import numpy as np
import polars as pl

from enforcement.builds import Hop
from enforcement.importers.batch import Batch
from enforcement.importers.mail_files import TOO_LONG, Source, header_fields, size_of
from enforcement.names import excerpt
from enforcement.received import (
    HandOver,
    OwnHosts,
    Stamp,
    own_hosts,
    read_chain,
    received_lines,
)
from enforcement.schema import HANDOVERS, REJECTS, SIGHTINGS, conform

# Told how many bytes are done, and of how many.
Report: TypeAlias = Callable[[int, int], None]

_DAY_SECONDS: Final = 86_400
_COUNTED_AT_ONCE: Final = 500
_PACKED_AT_ONCE: Final = 50_000
_LONGEST_LABEL: Final = 60


@dataclass(slots=True)
class _Rows:
    """What has been read so far; who handed a mail over is a number here, so that millions of mails fit."""

    seconds: "array[int]" = field(default_factory=lambda: array("q"))  # since 1970
    numbers: "array[int]" = field(default_factory=lambda: array("i"))  # in `stamps`
    routes: list[str] = field(default_factory=list)
    stamps: dict[Stamp, int] = field(default_factory=dict)
    sightings: Counter[tuple[Stamp, int]] = field(default_factory=Counter)  # by day since 1970
    rejects: list[tuple[int, str, str]] = field(default_factory=list)  # the latest
    packed: list[pl.DataFrame] = field(default_factory=list)  # those before
    n_read: int = 0
    n_unusable_hops: int = 0


def read_mail(source: Source, own: Iterable[str] = (), report: Report | None = None) -> Batch:
    """Read the mails of a source; what is wrong with a file itself is a ValueError.

    `own`: shell patterns of the service's own hosts. `report` is told how many bytes have been read, and of how many.
    The position of a reject is the number of its mail in the source, from 1.
    """
    hosts = own_hosts(own)
    sizes = [size_of(path) for path in source.files]
    n_bytes, n_done = sum(sizes), 0
    rows = _Rows()
    for path, size in zip(source.files, sizes, strict=True):
        label = f"{path.name[-_LONGEST_LABEL:]}: " if len(source.files) > 1 else ""
        mails = header_fields(path, partial(_add_up, report, n_done, n_bytes)) if report else header_fields(path)
        try:
            _read_all(rows, mails, hosts, label)
        except ValueError as problem:
            raise ValueError(f"{problem} ({rows.n_read:,} mails; nothing is imported)") from None
        n_done += size
    return _batch(rows)


def _add_up(report: Report, n_before: int, n_bytes: int, n_done: int) -> None:
    report(n_before + n_done, n_bytes)


def _read_all(rows: _Rows, mails: Iterable[list[str]], own: OwnHosts | None, label: str) -> None:
    seen: list[tuple[Stamp, int]] = []
    stamps, add_seconds, add_number, add_route = (
        rows.stamps,
        rows.seconds.append,
        rows.numbers.append,
        rows.routes.append,
    )
    for fields in mails:
        rows.n_read += 1
        if fields is TOO_LONG:
            _reject(rows, TOO_LONG[0], label)
            continue
        hops, found = read_chain(received_lines(fields), own)
        for _, stamp, seconds in hops:
            if seconds is not None and stamp.is_usable:
                seen.append((stamp, seconds // _DAY_SECONDS))
            elif not stamp.is_cloud:
                rows.n_unusable_hops += 1
        if len(seen) > _COUNTED_AT_ONCE:
            rows.sightings.update(seen)
            seen.clear()
        if isinstance(found, HandOver):
            stamp, seconds, route = found
            add_seconds(seconds)
            add_number(stamps.setdefault(stamp, len(stamps)))
            add_route(route)
        else:
            line = found.line.encode("latin-1").decode("utf-8", errors="replace")
            _reject(rows, found.reason, label + line)
    rows.sightings.update(seen)


def _reject(rows: _Rows, reason: str, text: str) -> None:
    rows.rejects.append((rows.n_read, reason, excerpt(text)))
    if len(rows.rejects) >= _PACKED_AT_ONCE:
        _pack(rows)


def _pack(rows: _Rows) -> None:
    """Put the latest rejects where they take less memory."""
    columns = zip(*rows.rejects, strict=True) if rows.rejects else ((), (), ())
    rows.packed.append(pl.DataFrame(dict(zip(REJECTS, columns, strict=True)), schema=dict(REJECTS)))
    rows.rejects.clear()


def _batch(rows: _Rows) -> Batch:
    numbers = pl.Series(np.frombuffer(rows.numbers, dtype=np.int32).astype(np.uint32))
    handovers = pl.DataFrame(
        {
            "sent_at": np.frombuffer(rows.seconds, dtype=np.int64),
            "server": pl.Series([stamp.server for stamp in rows.stamps], dtype=pl.String).gather(numbers),
            "build": pl.Series([str(stamp.build) for stamp in rows.stamps], dtype=pl.String).gather(numbers),
            "route": pl.Series(rows.routes, dtype=pl.String),
        },
    ).with_columns(
        sent_at=pl.from_epoch("sent_at", time_unit="s"),
        tenant=pl.lit(None, dtype=pl.String),
        hop=pl.lit(str(Hop.SMTP)),
        messages=1,
    )
    sightings = (
        pl.DataFrame(
            {
                "server": pl.Series([stamp.server for stamp, _ in rows.sightings], dtype=pl.String),
                "build": pl.Series([str(stamp.build) for stamp, _ in rows.sightings], dtype=pl.String),
                "hop": pl.Series([str(stamp.hop) for stamp, _ in rows.sightings], dtype=pl.String),
                "day": pl.Series([day for _, day in rows.sightings], dtype=pl.Int32).cast(pl.Date),
                "hops": pl.Series(list(rows.sightings.values()), dtype=pl.Int64),
            }
        )
        .group_by("server", "build", "hop", "day")  # a stamp may have been made twice
        .agg(pl.col("hops").sum())
        .sort("server", "build", "hop", "day")
        .with_columns(tenant=pl.lit(None, dtype=pl.String))
    )
    _pack(rows)
    notes = []
    if rows.n_unusable_hops:
        notes.append(
            f"hops that are no sightings, because server, build or time cannot be read: {rows.n_unusable_hops:,}"
        )
    return Batch(
        handovers=conform(handovers, HANDOVERS, what="hand-overs"),
        sightings=conform(sightings, SIGHTINGS, what="sightings"),
        rejects=pl.concat(rows.packed),
        rows_read=rows.n_read,
        notes=tuple(notes),
    )
