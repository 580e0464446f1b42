"""What one would write without this project: the same counts by hand-written SQL, Polars and pandas.

Each is written as well as we can: tables sorted as ours, stored days and minutes, a list of builds that lets an engine
skip most row groups, keys worked out once a segment, integers counted by `np.bincount` where that is the fastest. None
of them uses our exposure or our outcomes; only the fate of one message is `follow`'s, the definition of the word.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb  # noqa: TID251 - peers have their own door
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from pyarrow import parquet
from traffic import DAYS, FIRST_ON

from enforcement.policy import Stage
from enforcement.schema import day_number
from enforcement.verdict import Outcome, Sender, follow

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

FIRST: Final = day_number(FIRST_ON)
CLOCKS: Final = 401  # clocks of 0 to 400
MINUTES: Final = 64  # 60, and room that makes keys cheap
OUTCOMES: Final = (Outcome.AT_ONCE, Outcome.DELAYED, Outcome.REJECTED, Outcome.EXPIRED)
BROKEN_ROWS: Final = 1000  # of the table to import
_CHUNK: Final = 2_000_000  # rows counted at a time: keys and counts of so many stay in the cache
_BATCH: Final = 1_000_000
_DAYS_AT_ONCE: Final = 6  # of the table to import; 100 M messages of text are not sorted in memory
_ROW_GROUP: Final = 122_880  # as DuckDB writes them


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What all variants are given: segments within the period with their group, and what the groups are.

    segments: server_id, build_id, lo, hi (days, hi not counted), running, clock_at_0 (clock = clock_at_0 + running *
    day), group; groups: product, decile, in the order of their numbers.
    """

    segments: pl.DataFrame
    groups: pl.DataFrame

    @property
    def builds(self) -> list[int]:
        return self.segments["build_id"].unique().sort().to_list()


@dataclass(frozen=True, kw_only=True)
class Cubes:
    """The exposure, dense: by day (clock, day, minute, running), by group (clock, group, minute, running)."""

    by_day: Floats
    by_group: Floats


@dataclass(frozen=True, kw_only=True)
class Totals:
    """What a schedule does: messages by OUTCOMES, then retries, of days, stages and groups; and delays.

    delays: percentiles 50, 95 and 99 of the delayed, in minutes, of each stage, product and decile, one under the
    other; not a number where nothing is delayed.
    """

    by_day: Floats
    by_stage: Floats
    by_group: Floats
    delays: Floats


def inputs(segments: pl.DataFrame, groups: pl.DataFrame) -> Inputs:
    """Prepare SEGMENTS and groups (server_id, build_id, product, decile) for the peers."""
    named = groups.select("product", "decile").unique().sort("product", "decile").with_row_index("group")
    group_of = groups.join(named, on=["product", "decile"]).select("server_id", "build_id", "group")
    from_day, until_day = pl.col("from_on").to_physical(), pl.col("until_on").to_physical()
    end = FIRST + DAYS
    whole = (
        segments.join(group_of, on=["server_id", "build_id"])
        .with_columns(
            lo=pl.max_horizontal(from_day, FIRST),
            hi=pl.min_horizontal(until_day.fill_null(end), end),
            running=pl.col("running").cast(pl.Int32),
        )
        .filter(pl.col("lo") < pl.col("hi"))
        .with_columns(clock_at_0=pl.col("clock_at_start") - pl.col("running") * from_day)
        .sort("build_id", "server_id", "lo")
        .select(
            "server_id",
            "build_id",
            pl.col("lo", "hi").cast(pl.Int16),
            "running",
            pl.col("clock_at_0").cast(pl.Int32),
            pl.col("group").cast(pl.Int32),
        )
    )
    last_clock = whole.select((pl.col("clock_at_0") + pl.col("running") * (pl.col("hi") - 1)).max()).item()
    assert last_clock < CLOCKS, "clocks past 400 are not counted apart here"
    return Inputs(segments=whole, groups=named.select("product", "decile"))


def connect(path: Path, *, memory_limit: str) -> duckdb.DuckDBPyConnection:
    """Open the store as a peer does."""
    return duckdb.connect(str(path), read_only=True, config={"memory_limit": memory_limit})


# --- SQL ---


def by_day_and_minute(connection: duckdb.DuckDBPyConnection) -> Ints:
    """Bucket all messages by day and minute of `sent_at`: what any report on a history costs."""
    rows = connection.sql("""
        select sent_at::date as day, extract(minute from sent_at) as minute, count(*) as messages from raw.traffic
        group by all order by all
    """).to_arrow_table()
    return rows["messages"].to_numpy()


def by_day(connection: duckdb.DuckDBPyConnection) -> Ints:
    """Count all messages by day of `sent_at`."""
    rows = connection.sql(
        "select sent_at::date as day, count(*) as messages from raw.traffic group by all order by all"
    )
    return rows.to_arrow_table()["messages"].to_numpy()


def _met(given: Inputs) -> str:
    """Give the subject rows: the list of builds is written out, which lets DuckDB skip row groups."""
    return f"""
        from raw.traffic t join segments s
        on t.server_id = s.server_id and t.build_id = s.build_id and day >= lo and day < hi
        where t.build_id in ({", ".join(map(str, given.builds))})
    """


def sql_cubes(connection: duckdb.DuckDBPyConnection, given: Inputs) -> Cubes:
    """Count the exposure twice: SQL gives two integer keys a row, a product and a sum each, and numpy counts them."""
    n_groups = given.groups.height
    running, clock = pl.col("running"), pl.col("clock_at_0")
    keys = given.segments.with_columns(
        day_key=(clock * DAYS - FIRST) * 2 * MINUTES + running,
        day_step=(running * DAYS + 1) * 2 * MINUTES,
        group_key=(clock * n_groups + pl.col("group")) * 2 * MINUTES + running,
        group_step=running * n_groups * 2 * MINUTES,
    )
    # Both keys of a running clock begin far below 0 and fit 32 bits all the same.
    columns = ["day_key", "day_step", "group_key", "group_step"]
    connection.register("given", keys.with_columns(pl.col(columns).cast(pl.Int32)).to_arrow())
    connection.execute("create or replace temp table segments as from given")
    reader = connection.sql(
        "select messages, day_key + day * day_step + minute::int * 2 as a,"
        f" group_key + day * group_step + minute::int * 2 as b {_met(given)}"
    ).to_arrow_reader(_BATCH)
    last = given.segments.select((clock + running * (pl.col("hi") - 1)).max()).item() + 1
    days, groups = np.zeros(last * DAYS * 2 * MINUTES), np.zeros(last * n_groups * 2 * MINUTES)
    for rows in _chunks(reader):
        messages = rows[0].to_numpy().astype(np.float64)
        days += np.bincount(rows[1].to_numpy(), messages, len(days))
        groups += np.bincount(rows[2].to_numpy(), messages, len(groups))
    shape = (MINUTES, 2)
    return Cubes(by_day=days.reshape(last, DAYS, *shape), by_group=groups.reshape(last, n_groups, *shape))


def _chunks(reader: pa.RecordBatchReader) -> Iterator[pa.Table]:
    held: list[pa.RecordBatch] = []
    n_held = 0
    for batch in reader:
        held.append(batch)
        n_held += batch.num_rows
        if n_held >= _CHUNK:
            yield pa.Table.from_batches(held).combine_chunks()
            held, n_held = [], 0
    if held:
        yield pa.Table.from_batches(held).combine_chunks()


def sql_schedule(
    connection: duckdb.DuckDBPyConnection, given: Inputs, stages: Sequence[Stage], senders: Sequence[Sender]
) -> Totals:
    """Judge one schedule: one scan, both groupings, the stage looked up in a list by the clock."""
    connection.register("given", given.segments.to_arrow())
    connection.execute("create or replace temp table segments as from given")
    stage_of_clock = ", ".join(map(str, stages_of_clock(stages)))
    rows = connection.sql(f"""
        with met as (
            select day, "group", ([{stage_of_clock}]::utinyint[])[1 + clock_at_0 + running * day] as stage,
                running, minute, messages {_met(given)}
        )
        select grouping(day) as of_group, coalesce(day, "group") as place, stage, running, minute,
            sum(messages)::bigint as messages
        from met group by grouping sets ((day, stage, running, minute), ("group", stage, running, minute))
    """).to_arrow_table()
    of_group = rows["of_group"].to_numpy() == 1
    place, stage, running, minute, messages = (rows[name].to_numpy() for name in rows.column_names[1:])
    key = ((place.astype(np.int64) * len(stages) + stage) * 2 + running) * 60 + minute
    day_key = key[~of_group] - FIRST * len(stages) * 120
    return fold(
        counted(day_key, messages[~of_group], DAYS, len(stages), 2, 60),
        counted(key[of_group], messages[of_group], given.groups.height, len(stages), 2, 60),
        given.groups,
        stages,
        senders,
    )


# --- Polars, on a copy of the store in Parquet, sorted as it is ---


def write_parquet(connection: duckdb.DuckDBPyConnection, path: Path, *, rows: str = "raw.traffic") -> None:
    """Copy what the peers read of the traffic."""
    connection.execute(
        f"copy (select day, minute, server_id, build_id, messages from {rows}) to '{path}'"
        " (format parquet, compression zstd)"
    )


def write_events(connection: duckdb.DuckDBPyConnection, path: Path, *, of: int, some: int) -> None:
    """Copy some messages of a store, evenly drawn, in order of time."""
    connection.execute(f"""
        copy (
            select day, minute, server_id, build_id, messages, (epoch(sent_at)::bigint // 60)::int as at_minute
            from raw.traffic where hash(sent_at, server_id) % {max(of // some, 1)} = 0 order by sent_at, server_id
        ) to '{path}' (format parquet)
    """)


def write_table(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Write a store's traffic as a log would come: names and builds as text, in order of time, some rows broken."""
    ((first, last),) = connection.sql("select min(day), max(day) from raw.traffic").fetchall()
    schema = pa.schema({"sent_at": pa.timestamp("us")} | dict.fromkeys(("server", "build", "route"), pa.string()))
    schema = schema.append(pa.field("messages", pa.int32()))
    with parquet.ParquetWriter(path, schema) as file:
        for day in range(first, last + 1, _DAYS_AT_ONCE):
            rows = (
                connection.sql(f"""
                select sent_at, server, build, route::varchar as route, messages
                from raw.traffic join raw.servers using (server_id) join raw.builds using (build_id)
                where day between {day} and {day + _DAYS_AT_ONCE - 1} order by sent_at, server
            """)
                .to_arrow_table()
                .cast(schema)
            )
            if day == first:
                some = pl.DataFrame(rows.slice(0, BROKEN_ROWS // 2))
                no_names = some.with_columns(server=pl.lit("no name at all!"))
                no_builds = some.with_columns(build=pl.lit("15"))
                rows = pa.concat_tables([pl.concat([no_names, no_builds]).to_arrow().cast(schema), rows])
            file.write_table(rows, row_group_size=_ROW_GROUP)


def polars_schedule(path: Path, given: Inputs, stages: Sequence[Stage], senders: Sequence[Sender]) -> Totals:
    """Judge one schedule: Polars gives the keys in a stream, numpy counts them; `group_by` takes longer."""
    clock = pl.col("clock_at_0") + pl.col("running") * pl.col("day")
    n = len(stages)
    stage = pl.lit(n - 1)
    for index, ends in reversed(list(enumerate(stage_starts(stages)[1:]))):
        stage = pl.when(clock < ends).then(index).otherwise(stage)
    of_stage = (stage.cast(pl.Int32) * 2 + pl.col("running")) * 60 + pl.col("minute")
    rows = (
        pl.scan_parquet(path)
        .filter(pl.col("build_id").is_in(given.builds))
        .join(given.segments.lazy(), on=["server_id", "build_id"])
        .filter(pl.col("day") >= pl.col("lo"), pl.col("day") < pl.col("hi"))
        .select(
            "messages",
            a=(pl.col("day").cast(pl.Int32) - FIRST) * n * 120 + of_stage,
            b=pl.col("group") * n * 120 + of_stage,
        )
        .collect(engine="streaming")
    )
    messages = rows["messages"].to_numpy().astype(np.float64)
    return fold(
        counted(rows["a"].to_numpy(), messages, DAYS, n, 2, 60),
        counted(rows["b"].to_numpy(), messages, given.groups.height, n, 2, 60),
        given.groups,
        stages,
        senders,
    )


# --- pandas, rows in memory ---


def pandas_cubes(path: Path, given: Inputs) -> Callable[[], Cubes]:
    """Read the rows into memory, and give the function that counts the exposure: merge, filter, keys, `bincount`."""
    import pandas as pd  # noqa: PLC0415 - only this peer needs it

    traffic = pd.read_parquet(path)
    segments = pd.DataFrame({name: given.segments[name].to_numpy() for name in given.segments.columns})
    builds = given.builds
    n_groups = given.groups.height

    def count() -> Cubes:
        subject = traffic[traffic["build_id"].isin(builds)]
        met = subject.merge(segments, on=["server_id", "build_id"])
        met = met[(met["day"] >= met["lo"]) & (met["day"] < met["hi"])]
        clock = met["clock_at_0"] + met["running"] * met["day"]
        inner = met["minute"].astype("int32") * 2 + met["running"]
        last = int(clock.max()) + 1
        day_key = (clock * DAYS + (met["day"].astype("int32") - FIRST)) * (2 * MINUTES) + inner
        group_key = (clock * n_groups + met["group"]) * (2 * MINUTES) + inner
        messages = met["messages"].astype("float64")
        return Cubes(
            by_day=counted(day_key, messages, last, DAYS, MINUTES, 2),
            by_group=counted(group_key, messages, last, n_groups, MINUTES, 2),
        )

    return count


# --- from counts to outcomes ---


def counted(keys: npt.NDArray[Any], messages: npt.NDArray[Any], *shape: int) -> Floats:
    """Add messages up by their keys."""
    return np.bincount(keys, messages, int(np.prod(shape))).astype(np.float64, copy=False).reshape(shape)


def stage_starts(stages: Sequence[Stage]) -> list[int]:
    """Give the clock at which each stage starts."""
    starts = [0]
    for stage in stages[:-1]:
        starts.append(starts[-1] + (stage.days or 0))
    return starts


def stages_of_clock(stages: Sequence[Stage]) -> list[int]:
    """Give the stage, from 0, at each clock."""
    return (np.searchsorted(stage_starts(stages), np.arange(CLOCKS), side="right") - 1).tolist()


def fold(
    days: Floats, groups: Floats, named: pl.DataFrame, stages: Sequence[Stage], senders: Sequence[Sender]
) -> Totals:
    """Turn counts by (day or group, stage, running, minute) into what becomes of the messages."""
    counts = np.zeros((len(stages), 2, 60, 5))
    counts[:, 0, :, 0] = 1.0  # the clock stands still: accepted at once
    late: dict[int, Floats] = {}
    for index, stage in enumerate(stages):
        for k in range(60):
            for sender in senders:
                fate = follow(k, throttle=stage.throttle, block=stage.block, sender=sender)
                counts[index, 1, k, OUTCOMES.index(fate.outcome)] += sender.share
                counts[index, 1, k, 4] += sender.share * fate.retries
                if fate.outcome is Outcome.DELAYED:
                    late.setdefault(fate.delay_minutes, np.zeros((len(stages), 60)))[index, k] += sender.share
    running = groups[:, :, 1]
    by_delay = {delay: np.einsum("gsk,sk->gs", running, share) for delay, share in sorted(late.items())}
    return Totals(
        by_day=np.tensordot(days, counts, 3),
        by_stage=np.einsum("srk,srkc->sc", groups.sum(axis=0), counts),
        by_group=np.tensordot(groups, counts, 3),
        delays=delays_of(by_delay, named),
    )


def delays_of(by_delay: Mapping[int, Floats], named: pl.DataFrame) -> Floats:
    """Give the percentiles of Totals from messages by delay: (groups, stages) each, delays in rising order."""
    if not by_delay:
        return np.full((0, 3), np.nan)
    minutes, late = np.array(list(by_delay)), np.stack(list(by_delay.values()), axis=-1)
    of_group = late.sum(axis=1)
    of_part = [
        of_group[(named[name] == part).to_numpy()].sum(axis=0)
        for name in ("product", "decile")
        for part in named[name].unique().sort()
    ]
    return np.array([_percentiles(minutes, messages) for messages in [*late.sum(axis=0), *of_part]])


def _percentiles(minutes: Ints, messages: Floats) -> list[float]:
    """Give the smallest delays at which the cumulated count reaches 50, 95 and 99 of 100."""
    total = messages.sum()
    if not total:
        return [np.nan] * 3
    # Expected values carry rounding errors far below one message.
    reached = messages.cumsum() + 1e-9 * total
    return [float(minutes[(reached < total * share / 100).sum()]) for share in (50, 95, 99)]
