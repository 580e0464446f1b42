"""The benchmark's store: made-up traffic of any size, in the tables that an import writes, from a seed.

50,000 servers whose volumes are log-normal, a fifth of them on builds that `ninety-days` calls vulnerable all the time;
a tenth change their build in the middle, one name in twenty hides a second build with a fifth of its mail. Builds are
real ones of the catalogue as smtp hops show them. Rows come in the order of an import: build, server, time.
"""

import argparse
import sys
import tempfile
import time
import zlib
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from enforcement.course import Background, course
from enforcement.policy import Policy
from enforcement.schema import PAUSES, SEGMENTS, SERVERS, conform, day_number
from enforcement.shipped import load_catalogue, load_policy
from enforcement.standing import standings
from enforcement.store import Store, create_store

FIRST_ON: Final = date(2021, 1, 1)  # a time at which many builds were vulnerable and many were not
DAYS: Final = 180
SERVERS_IN_ALL: Final = 50_000
TENANTS: Final = 25_000
VULNERABLE_BUILDS: Final = 44
OTHER_BUILDS: Final = 156
VULNERABLE_SHARE: Final = 0.2  # of servers, by the build that they begin with
SWITCH_SHARE: Final = 0.1
HIDES_TWO_SHARE: Final = 0.05
HIDDEN_VOLUME_SHARE: Final = 0.2
VOLUME_SIGMA: Final = 1.8
POLICY: Final = "ninety-days"

_VERSION: Final = 1  # of what is made: a store of another version is not used again
_RANGE: Final = 4_000_000  # rows made and sorted at a time
_TURN: Final = DAYS // 2  # servers that switch do so on this day

# Times, routes and days of row i of a pair are digits of one hash. The hour of the day follows t = u + c sin(2πu)/2π:
# three times as much mail at noon as by night. Of each server, 30 rows in 32 take its usual route.
_INSERT: Final = """
insert into raw.traffic
with drawn as (
    select build_id, server_id, minute_offset, from_day, n_days, usual_route,
        hash(server_id, build_id, unnest(range(n)), {seed}) as h
    from pairs where place between {first} and {last}
),
placed as (
    select *, (from_day + (((h & 65535)::int * n_days::int) >> 16))::smallint as day,
        ((h >> 16) & 16777215)::double / 16777216 as u
    from drawn
),
timed as (
    select *, least(86399, floor(86400 * (u + 0.7 * sin(2 * pi() * u) / (2 * pi()))))::int as second from placed
)
select make_timestamp((day::bigint * 86400 + second) * 1000000) as sent_at, day, ((second // 60) % 60)::utinyint,
    ((second // 60 + 60 - minute_offset) % 60)::utinyint, server_id, build_id,
    (['direct', 'relayed', 'through cloud'])[1 + if((h >> 40) & 31 < 30, usual_route, ((h >> 45) % 3)::int)]::raw.route,
    1, {import_id}
from timed order by build_id, server_id, sent_at
"""
_INSERT_DAYS: Final = """
insert into raw.handover_days
select server_id, build_id, route, day, sum(messages)::bigint, import_id from raw.traffic
where build_id between {first} and {last} group by all order by build_id, server_id, day, route
"""


def path_of(folder: Path, messages: int, *, seed: int = 1) -> Path:
    """Name the store of a size."""
    return folder / f"traffic-{messages}-{seed}-v{_VERSION}.duckdb"


def store_of(folder: Path, messages: int, *, seed: int = 1) -> Path:
    """Give the store of a size, made now or by an earlier run."""
    path = path_of(folder, messages, seed=seed)
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    half_made = path.with_suffix(".making")
    for left in (half_made, Path(f"{half_made}.wal")):
        left.unlink(missing_ok=True)
    began = time.perf_counter()
    with create_store(half_made) as store:
        make(store, messages, seed=seed)
    half_made.rename(path)
    print(f"made {path}: {messages:,} messages, {time.perf_counter() - began:.0f} s", file=sys.stderr)
    return path


def make(store: Store, messages: int, *, seed: int) -> None:
    """Fill an empty store."""
    connection = store._connection
    rng = np.random.default_rng(seed)
    builds, is_vulnerable = draw_builds()
    servers = draw_servers()
    pairs = draw_pairs(servers, is_vulnerable, messages, rng)
    import_id = connection.sql("select nextval('raw.import_ids')::integer").fetchall()[0][0]
    for name, frame in (("some_builds", builds), ("some_servers", servers), ("pairs", pairs)):
        connection.register(name, frame.to_arrow())
    connection.execute("insert into raw.builds from some_builds")
    connection.execute("insert into raw.servers from some_servers")
    # Some pairs at a time, so that sorting never needs more memory than a range of rows.
    ranges = (
        pairs.with_columns(range=(pl.col("n").cum_sum() - 1) // _RANGE)
        .group_by("range")
        .agg(first=pl.col("place").min(), last=pl.col("place").max())
    )
    began, made = time.perf_counter(), 0
    for _, first, last in ranges.sort("range").iter_rows():
        connection.execute(_INSERT.format(seed=seed, import_id=import_id, first=first, last=last))
        made += int(pairs.filter(pl.col("place").is_between(first, last))["n"].sum())
        if sys.stderr.isatty():
            left = (time.perf_counter() - began) / made * (messages - made)
            print(f"\rmaking {made:,} of {messages:,} messages, {left:.0f} s left ", end="", file=sys.stderr)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    n_builds = builds.height
    for first in range(1, n_builds + 1, 20):
        connection.execute(_INSERT_DAYS.format(first=first, last=min(first + 19, n_builds)))
    connection.execute(
        "insert into raw.imports values (?, 'made up by the benchmark', ?, ?, ?, ?, ?, 0, 0, null, null, '')",
        [
            import_id,
            f"{zlib.crc32(f'{_VERSION} {messages} {seed}'.encode()):064x}",
            f'{{"messages": {messages}, "seed": {seed}}}',
            f"{FIRST_ON + timedelta(days=DAYS)} 00:00:00",
            messages,
            messages,
        ],
    )
    counts = "(select count(*) from raw.traffic), (select sum(messages)::bigint from raw.handover_days)"
    n_rows, n_days = connection.sql(f"select {counts}").fetchall()[0]
    assert (n_rows, n_days) == (messages, messages), f"{n_rows:,} rows and {n_days:,} counted by day of {messages:,}"
    connection.execute("checkpoint")


def draw_builds() -> tuple[pl.DataFrame, pl.Series]:
    """Take builds of the catalogue that are vulnerable, or not, all through: BUILDS by id, and which are vulnerable."""
    last_on = FIRST_ON + timedelta(days=DAYS - 1)
    catalogue = load_catalogue()
    released = pl.DataFrame(
        {"build": sorted({str(r.build) for r in catalogue.releases if r.released_on <= last_on}), "hop": "smtp"}
    ).with_row_index("build_id")
    table = standings(released, catalogue, load_policy(POLICY))
    is_always = (pl.col("vulnerable_from") <= FIRST_ON).fill_null(value=False)
    is_never = (pl.col("vulnerable_from") > last_on).fill_null(value=True)
    chosen = pl.concat(
        [
            _some(table.filter(is_always).select("build", is_vulnerable=True), VULNERABLE_BUILDS),
            _some(table.filter(is_never).select("build", is_vulnerable=False), OTHER_BUILDS),
        ]
    ).sort("build")
    ids = pl.int_range(1, pl.len() + 1, dtype=pl.Int32)
    return chosen.select(build_id=ids, build="build", hop=pl.lit("smtp")), chosen["is_vulnerable"]


def _some(rows: pl.DataFrame, n: int) -> pl.DataFrame:
    """Take n rows, evenly spaced."""
    assert rows.height >= n, f"{rows.height} builds of {n}"
    return rows[np.linspace(0, rows.height - 1, n).round().astype(int).tolist()]


def draw_servers() -> pl.DataFrame:
    """Name the servers: SERVERS, two of each tenant on average."""
    names = [(f"ex{n:05}.org{zlib.crc32(f'{n}'.encode()) % TENANTS:05}.example", n) for n in range(SERVERS_IN_ALL)]
    rows = [
        (place + 1, name, name.split(".", 1)[1], zlib.crc32(name.encode()) % 60)
        for place, (name, _) in enumerate(sorted(names))
    ]
    return pl.DataFrame(rows, schema=dict(SERVERS), orient="row")


def draw_pairs(
    servers: pl.DataFrame, is_vulnerable: pl.Series, messages: int, rng: np.random.Generator
) -> pl.DataFrame:
    """Draw which builds each server runs, from when to when, and how many rows it has of each.

    Gives place (rows of the store are in its order), build_id, server_id, minute_offset, usual_route, from_day, n_days,
    n.
    """
    n = servers.height
    ids = np.arange(1, len(is_vulnerable) + 1)
    old, new = ids[is_vulnerable.to_numpy()], ids[~is_vulnerable.to_numpy()]

    def some_builds(size: int) -> np.ndarray:
        return np.where(rng.random(size) < VULNERABLE_SHARE, rng.choice(old, size), rng.choice(new, size))

    server_id = servers["server_id"].to_numpy()
    volume = rng.lognormal(sigma=VOLUME_SIGMA, size=n)
    build = some_builds(n)
    switches = rng.random(n) < SWITCH_SHARE
    hides = rng.random(n) < HIDES_TWO_SHARE
    volume_of_first = volume * np.where(hides, 1 - HIDDEN_VOLUME_SHARE, 1.0)
    half = np.where(switches, 0.5, 1.0)
    parts = [
        # server, build, from, days, volume
        (server_id, build, np.zeros(n, int), np.where(switches, _TURN, DAYS), volume_of_first * half),
        (server_id, some_builds(n), np.full(n, _TURN), np.full(n, DAYS - _TURN), volume_of_first * half * switches),
        (server_id, some_builds(n), np.zeros(n, int), np.full(n, DAYS), volume * HIDDEN_VOLUME_SHARE * hides),
    ]
    first = day_number(FIRST_ON)
    drawn = pl.concat(
        [
            pl.DataFrame({"build_id": b, "server_id": s, "from_day": first + f, "n_days": d, "volume": v})
            for s, b, f, d, v in parts
        ]
    ).filter(pl.col("volume") > 0)
    usual_route = rng.choice(3, n, p=[0.92, 0.05, 0.03])
    of_server = servers.select(
        pl.col("server_id").cast(pl.Int64), "minute_offset", usual_route=pl.Series(usual_route, dtype=pl.Int32)
    )
    # A server that hides the build it runs openly would have two rows of one pair: the first stays.
    pairs = drawn.unique(["build_id", "server_id"], keep="first", maintain_order=True).sort("build_id", "server_id")
    reached = (pairs["volume"].cum_sum() / pairs["volume"].sum() * messages).round().cast(pl.Int64)
    return (
        pairs.with_columns(n=reached.diff().fill_null(reached[0]))
        .with_columns(place=pl.int_range(pl.len()))
        .join(of_server, on="server_id", how="left", maintain_order="left")
        .select(
            "place",
            pl.col("build_id", "server_id", "from_day").cast(pl.Int32),
            "minute_offset",
            "usual_route",
            "n_days",
            "n",
        )
    )


def spread_segments(store: Store, policy: Policy, *, seed: int = 1) -> pl.DataFrame:
    """Make SEGMENTS whose spells start on any day from 60 before the period to 120 after its beginning.

    One tenth have a pause of 30 days, so three segments. This is the largest exposure that a history can have; real
    cohorts start on few days.
    """
    rng = np.random.default_rng([seed, 1])
    table = standings(store.builds(), load_catalogue(), policy)
    subject = table.filter(pl.col("vulnerable_from") <= FIRST_ON)["build_id"].to_list()
    _, is_vulnerable = draw_builds()
    assert len(subject) == is_vulnerable.sum()
    # From the small table of hand-overs by day: which pairs there are.
    pairs = pl.DataFrame(
        store._connection.sql(
            f"select distinct server_id, build_id from raw.handover_days where build_id in ({_listed(subject)})"
        ).pl()
    ).sort("server_id", "build_id")
    servers = pairs["server_id"].unique().sort()
    n = len(servers)
    start = rng.integers(-60, 121, n)
    pause = start + rng.integers(20, 91, n)
    of_server = pl.DataFrame({"server_id": servers, "start": start, "pause": pause, "is_paused": rng.random(n) < 0.1})
    day = {name: pl.lit(FIRST_ON).dt.offset_by(pl.format("{}d", name)) for name in ("start", "pause")}
    life = pairs.join(of_server, on="server_id").with_columns(**day)
    resumes = pl.col("pause").dt.offset_by("30d")
    before = (pl.col("pause") - pl.col("start")).dt.total_days()
    never = pl.lit(None, dtype=pl.Date)
    paused, whole = life.filter("is_paused"), life.filter(~pl.col("is_paused"))
    zero = pl.lit(0, dtype=pl.Int64)
    spans = [
        whole.select("server_id", "build_id", from_on="start", until_on=never, clock_at_start=zero, running=True),
        paused.select("server_id", "build_id", from_on="start", until_on="pause", clock_at_start=zero, running=True),
        paused.select("server_id", "build_id", from_on="pause", until_on=resumes, clock_at_start=before, running=False),
        paused.select("server_id", "build_id", from_on=resumes, until_on=never, clock_at_start=before, running=True),
    ]
    return (
        pl.concat(spans)
        .with_columns(cohort=pl.lit("all"), spell=1)
        .sort("server_id", "build_id", "from_on")
        .pipe(conform, SEGMENTS, what="segments")
    )


def _listed(ids: list[int]) -> str:
    return ", ".join(map(str, ids))


def groups_of(store: Store, policy: Policy) -> pl.DataFrame:
    """Give the product and the decile of tenants of each pair: server_id, build_id, product, decile."""
    pairs = store._connection.sql(
        "select server_id, build_id, sum(messages)::bigint as messages from raw.handover_days group by all"
    ).pl()
    product = standings(store.builds(), load_catalogue(), policy).select("build_id", "product")
    named = pairs.join(store.servers(), on="server_id").join(product, on="build_id")
    deciles = (
        named.group_by("tenant")
        .agg(pl.col("messages").sum())
        .sort("messages", "tenant")
        .select("tenant", decile=(1 + pl.int_range(pl.len()) * 10 // pl.len()).cast(pl.Int8))
    )
    return (
        named.join(deciles, on="tenant")
        .select("server_id", "build_id", "product", "decile")
        .sort("server_id", "build_id")
    )


def course_segments(store: Store, policy: Policy) -> pl.DataFrame:
    """Work out SEGMENTS as the program does: all cohorts start long before, so spells start with the first mail."""
    nobody = pl.DataFrame(schema=dict(PAUSES))
    return course(store.history(), policy, Background(catalogue=load_catalogue(), senders=(), pauses=nobody)).segments


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "enforcement-bench")
    arguments = parser.parse_args()
    path = store_of(arguments.folder, arguments.messages, seed=arguments.seed)
    print(path, f"{path.stat().st_size / 1e9:.2f} GB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
