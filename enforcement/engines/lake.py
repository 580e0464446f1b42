"""A history from rows with names as they were written: names are read once each, ids come back, rows stay there."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Final

import narwhals as nw
import polars as pl
import pyarrow as pa

from enforcement.builds import Build, Hop
from enforcement.history import History, Traffic
from enforcement.importers.batch import FIRST_ON, LAST_ON
from enforcement.importers.table_rows import ROUTES
from enforcement.names import excerpt, minute_offset, server_name, shown, tenant_name, tenant_of
from enforcement.rounded_times import FEWEST_MESSAGES, SUSPECT_SHARE
from enforcement.schema import BUILDS, CLOCK_STARTS, SERVERS, Schema, conform, day_from_number, day_number

MOST_MESSAGES: Final = 2**31 - 1  # in one row
NO_DAY: Final = -100_000  # stands for a time that is in no calendar of ours

_FIRST, _LAST = day_number(FIRST_ON), day_number(LAST_ON)
_NAME: Final = ("server", "tenant")
_HOP: Final = ("build", "hop", "route")
_BLANK: Final = "\ufdd0"  # stands for null in joins, which match no nulls; no text of any column may hold it
_SHOWN_REASONS: Final = 5
_SHOWN_DAYS: Final = 100_000  # later ones are in no calendar
_NO_TIME: Final = "not a time of a mail"
_NO_COUNT: Final = "not a number of messages"


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """How an engine takes small tables, keeps a result that is read more than once, and gives rows; see Traffic."""

    bring: Callable[[pl.DataFrame], nw.LazyFrame[Any]]
    keep: Callable[[nw.LazyFrame[Any]], nw.LazyFrame[Any]]
    batches: Callable[[nw.LazyFrame[Any]], Iterator[pa.RecordBatch]]
    sums_itself: bool = False

    def collected(self, frame: nw.LazyFrame[Any]) -> pl.DataFrame:
        """Bring a small result here."""
        return pl.DataFrame(frame.collect(backend="polars").to_native())


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where rows come from: its name, a hash that changes when they do, and their number when somebody counted."""

    name: str
    fingerprint: str
    rows: int | None = None
    options: dict[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class _Reasons:
    """Numbers for the reasons why rows cannot be used."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        """Give a reason its number, the same each time."""
        if text not in self._numbers:
            self._numbers[text] = len(self.texts)
            self.texts.append(text)
        return self._numbers[text]


def history_of(raw: nw.LazyFrame[Any], engine: Engine, source: Source, to_on: date | None = None) -> History:
    """Make a history of rows that stay in their engine: every row is used, or counted with its reason.

    raw: day (days since 1970-01-01, NO_DAY for a time outside the calendar), minute, server, build, tenant, hop, route
    as they were written, messages; null is blank, what is blank in hop, route and messages has its default already.
    The servers, builds and counts are those of a store into which the same rows were imported as one file, the ids may
    be others. A server whose rows name several tenants has that of its earliest hand-over (of several, the first by
    name), there that of the first row that names one.
    """
    reasons = _Reasons()
    counted = engine.keep(_counted(raw))
    # Few queries: on a cluster each costs a second, however small.
    hops = engine.collected(counted.group_by(*_HOP).agg(nw.col("rows").sum().cast(nw.Int64)))
    names = engine.collected(counted.select(*_NAME).unique())
    maps = {name: _map(hops[name] if name in _HOP else names[name], name, reasons) for name in (*_NAME, *_HOP)}
    pairs = _pairs(hops, maps)
    judged = _judged(counted, engine, _all_of(hops, pairs, maps), _all_of(names, None, maps), reasons)

    by_fault = engine.collected(
        judged.group_by("fault").agg(
            *(nw.col(name).sum().cast(nw.Int64) for name in ("rows", "messages", "on_zero")),
            *(nw.col("odd_day").max(), nw.col("odd_count").min()),
        )
    )
    told = _unusable(by_fault.filter(pl.col("fault") >= 0), reasons)
    fine = by_fault.filter(pl.col("fault") < 0)
    rows_read, rows_used = int(hops["rows"].sum()), int(fine["rows"].sum())
    _expect_whole(source, rows_read, rows_used, int(told["rows"].sum()))

    used = judged.filter(nw.col("fault") < 0)
    kept_days = engine.keep(
        used.group_by("server_id", "build_id", "route_meant", "day")
        .agg(nw.col("messages").sum().cast(nw.Int64))
        .rename({"route_meant": "route"})
    )
    came = engine.collected(used.group_by("server_id", "build_id", "tenant_meant").agg(nw.col("moment").min()))
    servers, n_other_tenant = _servers(came, maps["server"])
    notes = (*source.notes, *_notes(told, fine, n_other_tenant))
    last = _LAST if to_on is None else min(_LAST, day_number(to_on))
    return History(
        servers=servers,
        builds=_used_builds(came, pairs),
        clock_starts=pl.DataFrame(schema=dict(CLOCK_STARTS)),
        traffic=Traffic(
            frame=_traffic(raw, engine, maps, pairs),
            days=kept_days.filter(nw.col("day") <= last),
            bring=engine.bring,
            batches=engine.batches,
            sums_itself=engine.sums_itself,
        ),
        imports=_imports(source, rows_read, rows_used, notes),
        are_times_rounded=False,
        fingerprint=source.fingerprint,
        to_on=to_on,
    )


def meaning_of(column: str, text: str) -> str:
    """Give a text its meaning as the import of tables does, or raise ValueError.

    >>> meaning_of("server", "MAIL.Contoso.example."), meaning_of("build", "15.01.2507.061 "), meaning_of("hop", "SMTP")
    ('mail.contoso.example', '15.1.2507.61', 'smtp')
    """
    if column == "server":
        return server_name(text)
    if column == "tenant":
        return tenant_name(text)
    if column == "build":
        return str(Build.parse(text.strip()))
    what, allowed = {"hop": ("kind of hop", tuple(hop.value for hop in Hop)), "route": ("route", ROUTES)}[column]
    value = text.strip().lower()
    if value not in allowed:
        raise ValueError(f"not a {what}: {shown(text)} (expected {', '.join(allowed)})")
    return value


def _counted(raw: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
    """Count the rows by all that is judged about them: the one reading that everything but the replay itself needs.

    time_fault: 1 no time, 2 a time of no mail; count_fault: 1 a number that is none of messages.
    """
    day, messages = nw.col("day"), nw.col("messages")
    in_days = (day >= _FIRST) & (day <= _LAST)
    is_count = (messages >= 1) & (messages <= MOST_MESSAGES)
    marked = raw.with_columns(
        time_fault=nw.when(day.is_null()).then(1).otherwise(nw.when(in_days).then(0).otherwise(2)),
        count_fault=nw.when(is_count).then(0).otherwise(1),
    )
    fine = (nw.col("time_fault") == 0) & (nw.col("count_fault") == 0)
    ready = marked.with_columns(
        day=nw.when(fine).then(day).otherwise(None),
        moment=nw.when(fine).then(day.cast(nw.Int64) * 1440 + nw.col("minute")).otherwise(None),
        on_zero=nw.when(fine & (nw.col("minute") == 0)).then(messages).otherwise(0),
        counts=nw.when(fine).then(messages).otherwise(0),
        odd_day=nw.when(nw.col("time_fault") == 2).then(day).otherwise(None),
        odd_count=nw.when(is_count).then(None).otherwise(messages),
    )
    texts = [nw.col(name).fill_null(_BLANK) for name in (*_NAME, *_HOP)]
    return (
        ready.with_columns(*texts)
        .group_by(*_NAME, *_HOP, "time_fault", "count_fault", "day")
        .agg(
            rows=nw.len().cast(nw.Int64),
            messages=nw.col("counts").sum().cast(nw.Int64),
            on_zero=nw.col("on_zero").sum().cast(nw.Int64),
            moment=nw.col("moment").min(),
            odd_day=nw.col("odd_day").max(),
            odd_count=nw.col("odd_count").min(),
        )
    )


def _map(seen: pl.Series, column: str, reasons: _Reasons) -> pl.DataFrame:
    """Read each text once: the text, what it means, its number among the meanings, and why it has none."""
    texts = seen.unique().sort()
    meant: list[str | None] = []
    faults: list[int] = []
    for text in texts:
        fault = -1
        name: str | None = None
        if text != _BLANK:
            try:
                name = meaning_of(column, text)
            except ValueError as problem:
                fault = reasons.number(excerpt(str(problem)))
        elif column != "tenant":
            fault = reasons.number(f"no {column}")
        meant.append(name)
        faults.append(fault)
    number = {name: n for n, name in enumerate(sorted({name for name in meant if name is not None}), start=1)}
    return pl.DataFrame(
        {column: texts, "meant": meant, "n": [number.get(name or "") for name in meant], "fault": faults},
        schema={column: pl.String, "meant": pl.String, "n": pl.Int32, "fault": pl.Int32},
    )


def _pairs(seen: pl.DataFrame, maps: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """Give each pair of build and hop its id: build, hop as written, build_meant, hop_meant, build_id."""
    read = (
        seen.select("build", "hop")
        .unique()
        .join(maps["build"].select("build", build_meant="meant"), on="build")
        .join(maps["hop"].select("hop", hop_meant="meant"), on="hop")
        .drop_nulls()
    )
    ids = (
        read.select("build_meant", "hop_meant").unique().sort("build_meant", "hop_meant").with_row_index("build_id", 1)
    )
    return read.join(ids.with_columns(pl.col("build_id").cast(pl.Int32)), on=["build_meant", "hop_meant"]).sort(
        "build", "hop"
    )


def _all_of(seen: pl.DataFrame, pairs: pl.DataFrame | None, maps: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """Put beside texts seen together what each means, and why it means nothing."""
    columns = [name for name in (*_NAME, *_HOP) if name in seen.columns]
    found = seen.select(columns).unique().sort(columns)
    for name in columns:
        table = maps[name].select(name, pl.col("meant", "n", "fault").name.prefix(f"{name}_"))
        found = found.join(table, on=name, how="left")
    return (
        found
        if pairs is None
        else found.join(pairs.select("build", "hop", "build_id"), on=["build", "hop"], how="left")
    )


def _judged(
    counted: nw.LazyFrame[Any], engine: Engine, hops: pl.DataFrame, names: pl.DataFrame, reasons: _Reasons
) -> nw.LazyFrame[Any]:
    """Give the counts their ids, and the first reason why they cannot be used, in the order of the columns; or -1."""
    brought = (
        hops.select(*_HOP, "route_meant", "build_id", "build_fault", "hop_fault", "route_fault"),
        names.select(*_NAME, "tenant_meant", "server_fault", "tenant_fault", server_id="server_n"),
    )
    joined = counted
    for table, on in zip(brought, (_HOP, _NAME), strict=True):
        joined = joined.join(engine.bring(table), on=list(on), how="inner")
    count, time = nw.col("count_fault"), nw.col("time_fault")
    fault = _covered(nw.lit(-1), count == 1, reasons.number(_NO_COUNT))
    # The last word is the first column's: each `when` covers what came before it.
    for name in ("route", "hop", "tenant", "build", "server"):
        known = nw.col(f"{name}_fault")
        fault = nw.when(known >= 0).then(known).otherwise(fault)
    fault = _covered(fault, time == 2, reasons.number(_NO_TIME))
    fault = _covered(fault, time == 1, reasons.number("no sent_at"))
    return joined.with_columns(fault=fault)


def _covered(fault: nw.Expr, where: nw.Expr, number: int) -> nw.Expr:
    return nw.when(where).then(nw.lit(number)).otherwise(fault)


def _unusable(found: pl.DataFrame, reasons: _Reasons) -> pl.DataFrame:
    """Say why rows cannot be used: reason, rows, most rows first."""
    rows = []
    for fault, n_rows, odd_day, odd_count in found.select("fault", "rows", "odd_day", "odd_count").iter_rows():
        reason = reasons.texts[fault]
        if reason == _NO_TIME:
            day = f", e.g. {day_from_number(odd_day)}" if 0 <= odd_day <= _SHOWN_DAYS else ""
            reason += f"{day} (expected from {FIRST_ON} to {LAST_ON})"
        elif reason == _NO_COUNT:
            reason += f", e.g. {odd_count} (expected a whole number from 1)"
        rows.append((reason, n_rows))
    return pl.DataFrame(rows, schema={"reason": pl.String, "rows": pl.Int64}, orient="row").sort(
        "rows", "reason", descending=[True, False]
    )


def _expect_whole(source: Source, rows_read: int, rows_used: int, rows_unusable: int) -> None:
    """Nothing may vanish between the files and the counts."""
    counted = rows_read if source.rows is None else source.rows
    if not counted == rows_read == rows_used + rows_unusable:
        raise ValueError(
            f"{source.name}: {counted:,} rows, of which {rows_read:,} were read, {rows_used:,} used and"
            f" {rows_unusable:,} could not be used (did it change while it was read? try again)"
        )


def _servers(came: pl.DataFrame, names: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Give the servers whose rows are used, and how many of them came with several tenants."""
    given = came.drop_nulls("tenant_meant").sort("server_id", "moment", "tenant_meant")
    first = given.unique("server_id", keep="first", maintain_order=True).select("server_id", tenant="tenant_meant")
    named = names.drop_nulls("meant").select(server_id="n", server="meant").unique().sort("server_id")
    there = named.join(came.select("server_id").unique(), on="server_id", how="semi", maintain_order="left")
    rows = [
        (server_id, server, tenant or tenant_of(server), minute_offset(server))
        for server_id, server, tenant in there.join(
            first, on="server_id", how="left", maintain_order="left"
        ).iter_rows()
    ]
    several = given.group_by("server_id").agg(n=pl.col("tenant_meant").n_unique()).filter(pl.col("n") > 1)
    return pl.DataFrame(rows, schema=dict(SERVERS), orient="row"), several.height


def _used_builds(came: pl.DataFrame, pairs: pl.DataFrame) -> pl.DataFrame:
    builds = pairs.select("build_id", build="build_meant", hop="hop_meant").unique().sort("build_id")
    return conform(builds.join(came, on="build_id", how="semi", maintain_order="left"), BUILDS, what="builds")


def _traffic(
    raw: nw.LazyFrame[Any], engine: Engine, maps: dict[str, pl.DataFrame], pairs: pl.DataFrame
) -> nw.LazyFrame[Any]:
    """Give the usable rows themselves with ids instead of names; joins that would change nothing are left out."""
    day, messages = nw.col("day"), nw.col("messages")
    good = raw.filter(day >= _FIRST, day <= _LAST, messages >= 1, messages <= MOST_MESSAGES)
    offsets = maps["server"].drop_nulls("meant").select("server", "meant", server_id="n")
    crcs = [minute_offset(name) for name in offsets["meant"]]
    servers = offsets.drop("meant").with_columns(pl.Series("minute_offset", crcs, dtype=pl.Int32))
    with_ids = good.join(engine.bring(pairs.select("build", "hop", "build_id")), on=["build", "hop"], how="inner")
    with_ids = with_ids.join(engine.bring(servers), on="server", how="inner")
    odd_tenants = maps["tenant"].filter(pl.col("fault") >= 0).select("tenant")
    if odd_tenants.height:
        with_ids = with_ids.join(engine.bring(odd_tenants), on="tenant", how="anti")
    routes = maps["route"].select("route", "meant")
    if not routes["route"].equals(routes["meant"], null_equal=True):
        with_ids = with_ids.join(engine.bring(routes.drop_nulls()), on="route", how="inner")
        with_ids = with_ids.drop("route").rename({"meant": "route"})
    return with_ids.select(
        day.cast(nw.Int32),
        nw.col("minute").cast(nw.Int32),
        minute_spread=((nw.col("minute") + 60 - nw.col("minute_offset")) % 60).cast(nw.Int32),
        server_id=nw.col("server_id"),
        build_id=nw.col("build_id"),
        route=nw.col("route"),
        messages=messages.cast(nw.Int32),
    )


def _notes(told: pl.DataFrame, fine: pl.DataFrame, n_other_tenant: int) -> Iterator[str]:
    """Say what the user should know about the rows, one line each."""
    for reason, n_rows in told.head(_SHOWN_REASONS).iter_rows():
        yield f"rows that cannot be used: {n_rows:,}: {reason}"
    if told.height > _SHOWN_REASONS:
        rest = int(told["rows"].slice(_SHOWN_REASONS).sum())
        yield f"rows that cannot be used: {rest:,} for {told.height - _SHOWN_REASONS:,} other reasons"
    if n_other_tenant:
        yield f"servers that come with several tenants: {n_other_tenant:,} (each has that of its earliest hand-over)"
    messages, on_zero = (int(fine[name].sum()) for name in ("messages", "on_zero"))
    if messages >= FEWEST_MESSAGES and on_zero / messages > SUSPECT_SHARE:
        yield (
            f"{on_zero / messages:.0%} of the messages were sent on minute 0 of an hour: if the source rounds times,"
            f" `enforcement import --times-rounded-to hour` spreads them"
        )


def _imports(source: Source, rows_read: int, rows_used: int, notes: tuple[str, ...]) -> pl.DataFrame:
    """Give the one row that the store's view `imports` would have."""
    row = {
        "import_id": 1,
        "source": source.name,
        "sha256": source.fingerprint,
        "options": json.dumps(source.options, sort_keys=True),
        "imported_at": datetime.now(UTC).replace(tzinfo=None, microsecond=0),
        "rows_read": rows_read,
        "rows_stored": rows_used,
        "rows_rejected": rows_read - rows_used,
        "overlap": 0,
        "times_rounded_to": None,
        "forgotten_before": None,
        "notes": "\n".join(notes),
    }
    schema: Schema = {
        "import_id": pl.Int32, "source": pl.String, "sha256": pl.String, "options": pl.String,
        "imported_at": pl.Datetime("us"), "rows_read": pl.Int64, "rows_stored": pl.Int64, "rows_rejected": pl.Int64,
        "overlap": pl.Int64, "times_rounded_to": pl.String, "forgotten_before": pl.Date, "notes": pl.String,
    }  # fmt: skip
    return pl.DataFrame([row], schema=dict(schema))
