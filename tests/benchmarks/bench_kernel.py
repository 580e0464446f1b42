"""How fast the kernel is: one run, variants in shuffled order in each round, each in a process of its own.

Wall and CPU seconds, medians and their ratios; the first round warms the disk cache up and is dropped. Peers are in
`peers.py`, what is measured in `variants.py`, the traffic in `traffic.py`. All variants must give the same numbers, or
the run fails. Prints a table against what the kernel must reach, and writes everything as JSON.
"""

import argparse
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import peers
import traffic
from variants import HUNDRED, MANY, ONE_BY_ONE, Task

from enforcement.shipped import load_policy
from enforcement.store import open_store

HERE: Final = Path(__file__).resolve().parent
REPORTS: Final = HERE.parents[1] / "reports" / "benchmarks"
JUDGED_FROM: Final = 100_000_000  # messages; a smaller run misses nothing
EVENTS: Final = 200_000  # messages that SimPy gets
LARGEST_FRAME: Final = 10_000_000  # messages that pandas gets
USUAL_MEMORY: Final = "2GB"  # as the program opens stores
LITTLE_MEMORY: Final = "1.5GB"
_BYTES_A_MESSAGE: Final = 12  # of a store, with room
_FACTORS: Final = (0.1, 0.3, 1.0, 3.0)


@dataclass(frozen=True, kw_only=True)
class Job:
    """Something measured once in each round."""

    name: str
    variant: str
    messages: int
    segments: str = "spread"
    memory_limit: str = USUAL_MEMORY


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table: what was asked for and what was measured; `figure` is what is judged."""

    measure: str
    must: str
    aim: str
    measured: str
    state: str


class Results:
    """What all rounds gave, by job."""

    def __init__(self) -> None:
        self.found: dict[str, list[dict[str, Any]]] = {}

    def add(self, name: str, result: dict[str, Any]) -> None:
        self.found.setdefault(name, []).append(result)

    def median(self, name: str, what: str) -> float:
        return statistics.median(result[what] for result in self.found[name])

    def wall(self, name: str) -> float:
        return self.median(name, "wall")

    def cpu(self, name: str) -> float:
        return self.median(name, "cpu")

    def ratio(self, name: str, to: str, times: float = 1.0) -> tuple[float, float]:
        """Give how many times as long something takes as something else: by wall and by CPU seconds."""
        return self.wall(name) / self.wall(to) * times, self.cpu(name) / self.cpu(to) * times


def jobs(messages: int, sizes: list[int], *, is_whole: bool) -> list[Job]:
    """List what is measured."""
    main = [
        "bare", "bare_by_day", "our_pass", "sql_pass", "our_one", "our_thousand", "our_hundred", "our_one_more",
        "our_second_pass", "sql_schedules",
    ]  # fmt: skip
    if is_whole:
        main += ["our_thousand_one_by_one", "polars_schedule"]
    found = [Job(name=name, variant=name, messages=messages) for name in main]
    found += [
        Job(name=f"our_pass, {size:,}", variant="our_pass", messages=size, memory_limit=LITTLE_MEMORY) for size in sizes
    ]
    found.append(Job(name="import_parquet", variant="import_parquet", messages=messages))
    if is_whole:
        found += [
            Job(name="our_pass, course", variant="our_pass", messages=messages, segments="course"),
            Job(name="pandas_pass", variant="pandas_pass", messages=sizes[0]),
            Job(name="simpy_events", variant="simpy_events", messages=messages),
            Job(name="our_events", variant="our_events", messages=messages),
        ]
    return found


# --- preparations, kept in the cache folder ---


def prepare(folder: Path, needed: list[Job], *, seed: int) -> None:
    """Make what the jobs read, as far as it is not there."""
    policy = load_policy(traffic.POLICY)
    for messages in sorted({job.messages for job in needed}):
        path = traffic.path_of(folder, messages, seed=seed)
        if not path.exists():
            # Not in this process: the processes that are measured begin as copies of it.
            command = [sys.executable, str(HERE / "traffic.py"), "--messages", str(messages), "--seed", str(seed)]
            subprocess.run([*command, "--folder", str(folder)], check=True, stdout=subprocess.DEVNULL)
        variants = {job.variant for job in needed if job.messages == messages}
        segments = {job.segments for job in needed if job.messages == messages}
        with open_store(path) as store:
            _once(beside(path, "groups"), lambda place: traffic.groups_of(store, policy).write_parquet(place))
            _once(beside(path, "spread"), lambda place: traffic.spread_segments(store, policy).write_parquet(place))
            if "course" in segments:
                _once(beside(path, "course"), lambda place: traffic.course_segments(store, policy).write_parquet(place))
        with peers.connect(path, memory_limit=USUAL_MEMORY) as connection:
            if variants & {"polars_schedule", "pandas_pass"}:
                _once(beside(path, "rows"), lambda place: peers.write_parquet(connection, place))
            if variants & {"simpy_events", "our_events"}:
                _once(
                    beside(path, "events"),
                    partial(peers.write_events, connection, of=messages, some=EVENTS),
                )
            if "import_parquet" in variants:
                _once(beside(path, "table"), lambda place: peers.write_table(connection, place))


def beside(store: Path, what: str) -> Path:
    """Name a file that goes with a store."""
    return store.with_suffix(f".{what}.parquet")


def _once(path: Path, make: Callable[[Path], object]) -> None:
    if not path.exists():
        half_made = path.with_suffix(".making")
        make(half_made)
        half_made.rename(path)


# --- rounds ---


def measure(job: Job, folder: Path, *, seed: int, schedules: int) -> dict[str, Any]:
    """Measure one variant in a new process."""
    store = traffic.path_of(folder, job.messages, seed=seed)
    task = Task(
        variant=job.variant,
        store=str(store),
        segments=str(beside(store, job.segments)),
        groups=str(beside(store, "groups")),
        parquet=str(beside(store, "rows")),
        events=str(beside(store, "events")),
        table=str(beside(store, "table")),
        schedules=schedules,
        memory_limit=job.memory_limit,
    )
    command = [sys.executable, str(HERE / "variants.py"), json.dumps(asdict(task))]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{job.name} failed:\n{done.stderr}")
    return dict(json.loads(done.stdout)) | {"load": os.getloadavg()[0]}


def run(all_jobs: list[Job], folder: Path, *, rounds: int, seed: int, schedules: int) -> Results:
    """Measure all in shuffled order, round by round; the first one is dropped."""
    results, agreed = Results(), dict[tuple[object, ...], tuple[Any, str]]()
    for number in range(rounds + 1):
        began = time.perf_counter()
        for job in random.sample(all_jobs, k=len(all_jobs)):
            result = measure(job, folder, seed=seed, schedules=schedules)
            _expect_agreement(agreed, job, result.pop("check"))
            if number:
                results.add(job.name, result)
        told = f"round {number} of {rounds}" if number else "round to warm up, not counted"
        print(f"{told}: {time.perf_counter() - began:.0f} s, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    return results


def _expect_agreement(agreed: dict[tuple[object, ...], tuple[Any, str]], job: Job, check: dict[str, Any]) -> None:
    """Stop when two variants give different numbers for the same thing."""
    of_events = job.variant.endswith("_events")
    for name, value in check.items():
        key = (job.messages, job.segments, of_events, name)
        known, first = agreed.setdefault(key, (value, job.name))
        if known != value:
            raise SystemExit(f"{first} and {job.name} differ in {name}:\n{known}\n{value}")


# --- the table ---


def table(results: Results, messages: int, sizes: list[int], schedules: int) -> Iterator[Row]:
    """Give a line for each measure that the kernel is judged by, as far as it was measured."""
    yield _ratio(
        "exposure pass, both counts ÷ DuckDB by day and minute of sent_at", results.ratio("our_pass", "bare"), 1.0, 0.7
    )
    yield _ratio("exposure pass ÷ count(*) by day", results.ratio("our_pass", "bare_by_day"), 2.2, 1.5)
    one_more = results.wall("our_one_more") / ONE_BY_ONE * 1000
    cpu = results.cpu("our_one_more") / ONE_BY_ONE * 1000
    yield _row(
        "one more schedule, all totals with percentiles", one_more, 4.0, 0.5, f"{one_more:.2f} ms (CPU {cpu:.2f})", "ms"
    )
    yield _ratio(f"{MANY:,} schedules ÷ one from cold", results.ratio("our_thousand", "our_one"), 2.3, 1.3)
    wall, cpu = results.ratio("sql_schedules", "our_hundred", HUNDRED / schedules)
    some = "" if schedules == HUNDRED else f" ({schedules} measured)"
    yield _row(
        f"{HUNDRED} schedules end to end ÷ hand-written SQL{some}",
        1 / wall, 1 / 60, 1 / 100, f"1/{wall:.0f} (CPU 1/{cpu:.0f})", "1/",
    )  # fmt: skip
    yield _ratio(
        "narwhals on DuckDB ÷ hand-written SQL of the same pass", results.ratio("our_pass", "sql_pass"), 1.15, 1.05
    )
    base, largest = f"our_pass, {messages:,}", f"our_pass, {sizes[-1]:,}"
    peak, peak_of_largest = (results.median(name, "peak_gb") for name in (base, largest))
    growth = peak_of_largest / peak - 1
    told = f"{peak:.2f} and {peak_of_largest:.2f} GB, {growth:+.0%}"
    state = (
        "aim"
        if peak_of_largest <= 1.2 and growth <= 0.2
        else "must"
        if peak_of_largest <= 1.2 and growth <= 0.4
        else "MISSED"
    )
    if sizes[-1] > messages:
        of = f"{_millions(messages)} and {_millions(sizes[-1])}"
        yield Row(
            measure=f"peak memory of the pass, {of} (DuckDB limit {LITTLE_MEMORY})",
            must="≤ 1.2 GB, growth ≤ 40 %",
            aim="growth ≤ 20 %",
            measured=told,
            state=state,
        )
        off = results.cpu(largest) / results.cpu(base) * messages / sizes[-1] - 1
        yield _row(f"CPU time {of}, off linear", abs(off), 0.15, 0.08, f"{off:+.0%}", "%")
    rate = messages / results.wall("import_parquet") / 1e6
    yield Row(
        measure=f"Parquet import with ids, rejects, sort ({_millions(messages)} rows, the whole command)",
        must="≥ 2.3 M rows/s", aim="≥ 3.5 M",
        measured=f"{rate:.2f} M rows/s (peak {results.median('import_parquet', 'peak_gb'):.2f} GB)",
        state="aim" if rate >= 3.5 else "must" if rate >= 2.3 else "MISSED",
    )  # fmt: skip
    second = results.wall("our_second_pass")
    yield _row(
        "second pass (tenants and servers hit) of one policy",
        second,
        2.0,
        1.0,
        f"{second:.2f} s (CPU {results.cpu('our_second_pass'):.2f})",
        "s",
    )


def _ratio(measure: str, found: tuple[float, float], must: float, aim: float) -> Row:
    wall, cpu = found
    return _row(measure, wall, must, aim, f"{wall:.2f} (CPU {cpu:.2f})", "")


def _row(measure: str, figure: float, must: float, aim: float, measured: str, unit: str) -> Row:  # noqa: PLR0917 - a line
    """Judge a figure of which less is better."""

    def bound(value: float) -> str:
        if unit == "1/":
            return f"≤ 1/{1 / value:.0f}"
        if unit == "%":
            return f"≤ {value:.0%}"
        return f"≤ {value} {unit}".strip()

    state = "aim" if figure <= aim else "must" if figure <= must else "MISSED"
    return Row(measure=measure, must=bound(must), aim=bound(aim), measured=measured, state=state)


def beside_peers(results: Results, messages: int, sizes: list[int]) -> Iterator[str]:
    """Tell what is not judged."""
    found = results.found
    for size in sizes:
        name = f"our_pass, {size:,}"
        told = f"{results.cpu(name) / size * 1e9:.1f} ns CPU a message, peak {results.median(name, 'peak_gb'):.2f} GB"
        yield f"pass of {_millions(size)}, DuckDB limit {LITTLE_MEMORY}: {results.wall(name):.2f} s, {told}"
    if "our_pass, course" in found:
        wall, cpu = results.ratio("our_pass, course", "bare")
        yield f"pass with the segments of the program's own course ÷ bare: {wall:.2f} (CPU {cpu:.2f})"
    if "our_thousand_one_by_one" in found:
        wall, cpu = results.ratio("our_thousand_one_by_one", "our_one")
        yield f"{MANY:,} schedules one by one, not in the batch form ÷ one from cold: {wall:.2f} (CPU {cpu:.2f})"
    if "polars_schedule" in found:
        wall, cpu = results.ratio("polars_schedule", "our_one")
        yield f"Polars, one schedule from sorted Parquet ÷ one from cold here: {wall:.2f} (CPU {cpu:.2f})"
    if "pandas_pass" in found:
        wall, cpu = results.ratio("pandas_pass", f"our_pass, {sizes[0]:,}")
        yield f"pandas, {_millions(sizes[0])} in memory ÷ the pass here from the store: {wall:.2f} (CPU {cpu:.2f})"
    if "simpy_events" in found:
        rate = EVENTS / results.wall("simpy_events")
        times = results.wall("simpy_events") / EVENTS / (results.wall("our_one") / messages)
        cpu = results.cpu("simpy_events") / EVENTS / (results.cpu("our_one") / messages)
        told = f"a message takes {times:,.0f} times as long as here from cold (CPU {cpu:,.0f})"
        yield f"SimPy: about {rate:,.0f} messages/s; {told}"


def _millions(messages: int) -> str:
    return f"{messages / 1e6:g} M"


def printed(rows: list[Row], results: Results) -> None:
    """Print the table, and under it what each variant took."""
    width = max(len(row.measure) for row in rows)
    widths = [max(len(getattr(row, name)) for row in rows) for name in ("must", "aim", "measured")]
    print(f"{'':{width}}  {'must':{widths[0]}}  {'aim':{widths[1]}}  measured")
    for row in rows:
        print(
            f"{row.measure:{width}}  {row.must:{widths[0]}}  {row.aim:{widths[1]}}  {row.measured:{widths[2]}}"
            + (f"  {row.state}" if row.state == "MISSED" else "")
        )
    print(f"\n{'':28}{'wall s':>9}{'CPU s':>9}{'peak GB':>9}  wall s of the rounds")
    for name, found in results.found.items():
        rounds = " ".join(f"{result['wall']:.2f}" for result in found)
        medians = f"{results.wall(name):9.3f}{results.cpu(name):9.3f}{results.median(name, 'peak_gb'):9.2f}"
        print(f"{name:28}{medians}  {rounds}")


def machine() -> dict[str, object]:
    """Say where this ran."""
    model = platform.processor() or platform.machine()
    cpus = Path("/proc/cpuinfo")
    if cpus.exists():
        names = [line.partition(":")[2].strip() for line in cpus.read_text(encoding="utf-8").splitlines()]
        lines = cpus.read_text(encoding="utf-8").splitlines()
        model = next((name for name, line in zip(names, lines, strict=True) if line.startswith("model name")), model)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {"cpu": model, "cores": os.cpu_count(), "memory_gb": round(memory, 1), "system": platform.platform()}


def versions() -> dict[str, str]:
    """Say with what this ran."""
    names = ("duckdb", "polars", "narwhals", "numpy", "pyarrow", "pandas", "simpy")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--messages", type=int, default=100_000_000, help="of the store; others are 0.1 to 3 times as large"
    )
    parser.add_argument("--rounds", type=int, default=5, help="counted ones; one more comes before")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--schedules", type=int, default=10, help=f"that hand-written SQL judges; {HUNDRED} for all of them"
    )
    parser.add_argument("--short", action="store_true", help="without Polars, pandas and SimPy")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or tempfile.gettempdir()) / "enforcement-bench"
    parser.add_argument("--folder", type=Path, default=cache, help="where stores are kept for later runs")
    arguments = parser.parse_args()
    messages, rounds, folder, seed = arguments.messages, arguments.rounds, arguments.folder, arguments.seed
    if messages < 100_000 or rounds < 1 or not 1 <= arguments.schedules <= HUNDRED:
        parser.error(f"expected 100,000 messages or more, a round or more, 1 to {HUNDRED} schedules")
    folder.mkdir(parents=True, exist_ok=True)
    sizes = [round(messages * factor) for factor in _FACTORS]
    sizes[0] = min(sizes[0], LARGEST_FRAME)
    missing = [size for size in {*sizes, messages} if not traffic.path_of(folder, size, seed=seed).exists()]
    room = shutil.disk_usage(folder).free
    if sum(missing) * _BYTES_A_MESSAGE > room:
        print(f"no room for {sizes[-1]:,} messages in {folder}: without them", file=sys.stderr)
        sizes.pop()
        missing = [size for size in missing if size in sizes]
    all_jobs = jobs(messages, sizes, is_whole=not arguments.short)
    seconds = sum(missing) / 1.5e6 + (rounds + 1) * (
        len(all_jobs) * 1.5 + messages * (8 + arguments.schedules) / 2e8 + sizes[0] / 2e6
    )
    print(
        f"{messages:,} messages, {len(all_jobs)} variants, {rounds} rounds: about {1 + seconds / 60:.0f} min",
        file=sys.stderr,
    )
    prepare(folder, all_jobs, seed=seed)
    load = os.getloadavg()
    results = run(all_jobs, folder, rounds=rounds, seed=seed, schedules=arguments.schedules)
    rows = list(table(results, messages, sizes, arguments.schedules))
    print(
        f"\n{messages:,} messages, medians of {rounds} rounds in shuffled order; all variants give the same numbers\n"
    )
    printed(rows, results)
    notes = list(beside_peers(results, messages, sizes))
    print("\n" + "\n".join(notes))
    now = datetime.now(UTC)
    report = {
        "date": now.isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(),
        "load_average": {"before": load, "after": os.getloadavg()},
        "messages": messages,
        "rounds": rounds,
        "seed": seed,
        "schedules_by_sql": arguments.schedules,
        "table": [asdict(row) for row in rows],
        "notes": notes,
        "variants": [asdict(job) | {"results": results.found[job.name]} for job in all_jobs],
    }
    REPORTS.mkdir(parents=True, exist_ok=True)
    path = REPORTS / f"kernel-{messages}-{now:%Y%m%dT%H%M%SZ}.json"
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"\n{path.relative_to(REPORTS.parents[1])}")
    if messages < JUDGED_FROM:
        print(f"bounds are for {JUDGED_FROM:,} messages: with fewer, what every process costs weighs more")
        return 0
    return 1 if any(row.state == "MISSED" for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
