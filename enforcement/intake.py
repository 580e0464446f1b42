"""What goes into a store, and out of it again: samples, sources, and what is to be forgotten."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import polars as pl

from enforcement import __version__, shipped
from enforcement.importers.batch import Batch
from enforcement.importers.sources import Source
from enforcement.sample import Extent, make_fleet, traffic_of
from enforcement.schema import REJECTS
from enforcement.store import Forgotten, ImportRecord, Store, StoreError, create_store, open_store

_PIECE: Final = 1_000_000  # messages of a sample made at a time; a day is made whole


class Reports(Protocol):
    """Takes what is being done, how much of it is done, of how much (0: not known), and what is counted."""

    def __call__(self, what: str, done: int, total: int, unit: str = "") -> None: ...


def _unheard(what: str, done: int, total: int, unit: str = "") -> None:
    """Take reports that nobody reads."""


@contextmanager
def _filled(store: Path) -> Iterator[Store]:
    """Open a store for an import; one that is made for it and stays empty, as it was interrupted, is removed again."""
    is_new = not store.exists()
    try:
        with create_store(store) as opened:
            yield opened
    except BaseException:  # also when the user interrupts
        if is_new and _is_empty(store):
            for path in (store, store.with_name(f"{store.name}.wal")):
                path.unlink(missing_ok=True)
        raise


def _is_empty(store: Path) -> bool:
    with suppress(StoreError), open_store(store) as opened:
        return not opened.imports().height
    return False


def make_sample(store: Path, extent: Extent, report: Reports = _unheard) -> ImportRecord:
    """Put a made-up fleet and its traffic into a store; the same sample again changes nothing."""
    usual = Extent(messages=extent.messages)
    unusual = [
        f"{given:,} {what}"
        for given, by_default, what in (
            (extent.n_servers, usual.n_servers, "servers"),
            (extent.days, usual.days, "days"),
        )
        if given != by_default
    ]
    name = ", ".join([f"sample of {extent.messages:,} messages", *unusual, f"seed {extent.seed}"])
    shape_file = shipped.DATA / "sample.toml"
    told = (repr(extent), __version__, *(path.read_bytes() for path in (shape_file, *shipped.catalogue_files())))
    digest = hashlib.sha256("\n".join(str(part) for part in told).encode()).hexdigest()
    with _filled(store) as opened:
        return opened.add(
            source=name,
            sha256=digest,
            options={"kind": "sample"},
            batches=_sampled(extent, report),
            report=partial(report, "sorting", unit="rows"),
        )


def _sampled(extent: Extent, report: Reports) -> Iterator[Batch]:
    """Make a sample, some days at a time."""
    report("drawing the fleet", 0, 0)
    fleet = make_fleet(shipped.load_catalogue(), shipped.load_sample_shape(), extent)
    n_made, n_given = 0, 0
    days = []
    for day in range(extent.days):
        days.append(traffic_of(fleet, day))
        n_made += days[-1].handovers.height
        report("making messages", n_made, extent.messages, "rows")
        if n_made - n_given >= _PIECE or day == extent.days - 1:
            yield Batch(
                handovers=pl.concat([made.handovers for made in days], rechunk=True),
                sightings=pl.concat([made.sightings for made in days], rechunk=True),
                rejects=pl.DataFrame(schema=dict(REJECTS)),
                rows_read=n_made - n_given,
            )
            n_given = n_made
            days.clear()


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import kept, a record each source; why rows were rejected; what was wrong with unreadable sources.

    rejected: reason, rows, first_excerpt, of the sources imported just now.
    """

    records: list[ImportRecord]
    rejected: pl.DataFrame
    problems: list[str]


def import_sources(store: Path, sources: Sequence[Source], report: Reports = _unheard) -> Imported:
    """Import sources, each whole or not at all; one that cannot be read does not keep the others out.

    What goes wrong with the store itself is a StoreError at once: it would be the same for all that follow.
    """
    records, problems = [], []
    with _filled(store) as opened:
        for source in sources:
            try:
                records.append(
                    opened.add(
                        source=source.name,
                        sha256=source.sha256(),
                        options=source.options,
                        batches=source.read(partial(report, source.name, unit=source.unit)),
                        report=partial(report, f"sorting {source.name}", unit="rows"),
                    )
                )
            except StoreError as problem:
                raise StoreError(f"{problem} ({len(records)} of {len(sources)} sources are imported)") from None
            except ValueError as problem:
                problems.append(str(problem))
        new = [record.import_id for record in records if not record.already_imported]
        rejected = opened.query(_REJECTED, [new])
    return Imported(records=records, rejected=rejected, problems=problems)


_REJECTED: Final = """
select reason, count(*) as rows, first(excerpt order by import_id, position) as first_excerpt
from rejects where list_contains(?::integer[], import_id) group by reason order by rows desc, reason desc
"""


def forget(store: Path, *, import_id: int | None, before: date | None) -> Forgotten:
    """Remove an import, or all rows before a day; neither and both are an error."""
    open_store(store).close()  # a store that is not there is an error here, and never made
    with create_store(store) as opened:
        if import_id is not None and before is None:
            return opened.forget(import_id)
        if import_id is None and before is not None:
            return opened.forget_before(before)
        raise ValueError(f"expected an import or a day to forget (found: import {import_id}, before {before})")
