"""What is measured: each variant does its preparations, then gives the call that is timed and how to check it."""

import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import peers
import polars as pl
from traffic import DAYS, FIRST_ON, POLICY

from enforcement import store_connection
from enforcement.exposure import CLOCKS, MINUTES, Counts, Exposure, exposure, exposure_by_server
from enforcement.history import Period, polars_traffic
from enforcement.outcomes import Judge, Judged, server_outcomes
from enforcement.policy import Policy, Stage
from enforcement.shipped import load_policy
from enforcement.store import open_store
from enforcement.verdict import Sender

# One sender, so that all counts are whole numbers and can be compared exactly: Exchange's usual one.
SENDER: Final = Sender(name="Exchange default", share=1.0, retry_minutes=(15,), gives_up_after_hours=48)
PERIOD: Final = Period(FIRST_ON, FIRST_ON + timedelta(days=DAYS - 1))
MANY: Final = 1000
HUNDRED: Final = 100
ONE_BY_ONE: Final = 200  # schedules judged one after another for the time of one

Check = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a process is told: which store, which segments, and how much of it."""

    variant: str
    store: str
    segments: str
    groups: str
    parquet: str
    events: str
    table: str
    schedules: int
    memory_limit: str

    @property
    def given(self) -> peers.Inputs:
        return peers.inputs(*self.frames)

    @property
    def frames(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        return pl.read_parquet(self.segments), pl.read_parquet(self.groups)


Run = tuple[Callable[[], Any], Callable[[Any], Check]]


def schedules(n: int) -> list[Policy]:
    """Draw schedules as a designer would try them: eight stages, in steps of five minutes, never milder than before."""
    base = load_policy(POLICY)
    rest = {name: getattr(base, name) for name in Policy.model_fields if name != "stages"}
    rng = np.random.default_rng(7)
    drawn = [base]
    while len(drawn) < n:
        blocks = np.sort(rng.choice([0, 0, 0, 5, 10, 15, 20, 30, 40], 6))
        throttles = [int(min(t, 60 - b)) for t, b in zip(np.sort(rng.choice(range(0, 45, 5), 6)), blocks, strict=True)]
        days = rng.choice([5, 7, 10, 14, 20, 30], 7)
        stages = [
            Stage(days=int(days[0])),
            *(
                Stage(days=int(d), throttle=t, block=int(b))
                for d, t, b in zip(days[1:], throttles, blocks, strict=True)
            ),
            Stage(block=60),
        ]
        drawn.append(Policy(**rest, stages=stages))
    return drawn[:n]


# --- ours ---


def _our_pass(task: Task) -> Callable[[], Exposure]:
    segments, groups = task.frames
    history = open_store(Path(task.store)).history()
    policy = load_policy(POLICY)
    return lambda: exposure(history.traffic, segments, groups, policy, PERIOD)


def our_pass(task: Task) -> Run:
    """The exposure, both counts."""
    return _our_pass(task), _check_exposure


def our_one(task: Task) -> Run:
    """One schedule from cold: the pass, then all totals."""
    count, policy = _our_pass(task), load_policy(POLICY)
    return lambda: Judge(count(), [SENDER]).judge(policy), _check_schedules


def our_thousand(task: Task) -> Run:
    """A thousand from cold, in the batch form."""
    count, policies = _our_pass(task), schedules(MANY)
    return lambda: Judge(count(), [SENDER]).judge_many(policies), lambda judged: {
        "thousand": _digest(judged.by_day, judged.by_stage)
    }


def our_thousand_one_by_one(task: Task) -> Run:
    """A thousand from cold, one after another."""
    count, policies = _our_pass(task), schedules(MANY)

    def run() -> list[Judged]:
        judge = Judge(count(), [SENDER])
        return [judge.judge(policy) for policy in policies]

    return run, lambda judged: {
        "thousand": _digest(
            *(np.concatenate([getattr(one, name) for one in judged]) for name in ("by_day", "by_stage"))
        )
    }


def our_hundred(task: Task) -> Run:
    """A hundred from cold, one after another."""
    count, policies = _our_pass(task), schedules(HUNDRED)

    def run() -> list[Judged]:
        judge = Judge(count(), [SENDER])
        return [judge.judge(policy) for policy in policies]

    return run, lambda judged: _check_schedules(*judged[: task.schedules])


def our_one_more(task: Task) -> Run:
    """One more schedule on a judge that has judged others; the time is that of many, one after another."""
    judge = Judge(_our_pass(task)(), [SENDER])
    policies = schedules(2 * ONE_BY_ONE)
    for policy in policies[:ONE_BY_ONE]:
        judge.judge(policy)
    return lambda: [judge.judge(policy) for policy in policies[ONE_BY_ONE:]], lambda judged: {
        "one_more": _digest(*(one.by_stage for one in judged))
    }


def our_second_pass(task: Task) -> Run:
    """Which servers, and so which tenants, are hit, and how."""
    segments, _ = task.frames
    history = open_store(Path(task.store)).history()
    policy = load_policy(POLICY)
    tenants = history.servers.select("server_id", "tenant")
    risk = history.builds.select("build_id", risk_from=pl.lit(PERIOD.from_on))

    def run() -> tuple[pl.DataFrame, pl.DataFrame]:
        by_stage = server_outcomes(
            exposure_by_server(history.traffic, segments, risk, policy, PERIOD), policy, [SENDER]
        )
        counts = pl.col("at_once", "delayed", "rejected", "expired", "retries").sum()
        servers = by_stage.group_by("server_id").agg(counts)
        return servers, servers.join(tenants, on="server_id").group_by("tenant").agg(counts)

    def check(found: tuple[pl.DataFrame, pl.DataFrame]) -> Check:
        columns = ("at_once", "delayed", "rejected", "expired", "retries")
        sums = [[round(frame[name].sum()) for name in columns] for frame in found]
        assert sums[0] == sums[1], "servers and tenants add up to different numbers"
        return {"schedule 0, outcomes": sums[0]}

    return run, check


def our_events(task: Task) -> Run:
    """The pass and one schedule on the few messages that SimPy gets, in memory."""
    segments, groups = task.frames
    traffic = polars_traffic(pl.read_parquet(task.events).with_columns(route=pl.lit("direct"), minute_spread="minute"))
    policy = load_policy(POLICY)
    return lambda: Judge(exposure(traffic, segments, groups, policy, PERIOD), [SENDER]).judge(policy), _check_schedules


def import_parquet(task: Task) -> Run:
    """The command that imports a Parquet file of names and builds as text, in order of time, into a new store."""
    scratch = tempfile.TemporaryDirectory(dir=Path(task.table).parent)  # goes with the last reference to it
    command = [sys.executable, "-m", "enforcement", "import", task.table, "--format", "json"]
    command += ["--store", f"{scratch.name}/new.duckdb"]

    def run() -> Any:
        done = subprocess.run(command, capture_output=True, check=False, text=True)
        assert done.returncode == 0, done.stderr
        return scratch, json.loads(done.stdout)[0]

    def check(found: Any) -> Check:
        counts = {name: found[1][name] for name in ("rows_read", "rows_stored", "rows_rejected")}
        assert counts["rows_rejected"] == peers.BROKEN_ROWS, counts
        assert counts["rows_read"] == counts["rows_stored"] + counts["rows_rejected"], counts
        assert counts["rows_read"] == pl.scan_parquet(task.table).select(pl.len()).collect().item(), counts
        return {"import": counts}

    return run, check


# --- peers ---


def _connected(task: Task) -> Any:
    return peers.connect(Path(task.store), memory_limit=task.memory_limit)


def bare(task: Task) -> Run:
    """DuckDB alone, by day and minute of `sent_at`."""
    connection = _connected(task)
    return lambda: peers.by_day_and_minute(connection), lambda counts: {"rows": int(counts.sum())}


def bare_by_day(task: Task) -> Run:
    """DuckDB alone, by day of `sent_at`."""
    connection = _connected(task)
    return lambda: peers.by_day(connection), lambda counts: {"rows": int(counts.sum())}


def sql_pass(task: Task) -> Run:
    """The same pass by hand-written SQL and numpy."""
    connection, given = _connected(task), task.given
    return lambda: peers.sql_cubes(connection, given), _check_cubes


def sql_schedules(task: Task) -> Run:
    """Some schedules by hand-written SQL, each from the traffic."""
    connection, given = _connected(task), task.given
    policies = schedules(task.schedules)
    return lambda: [peers.sql_schedule(connection, given, policy.stages, [SENDER]) for policy in policies], (
        lambda found: _check_totals(*found)
    )


def polars_schedule(task: Task) -> Run:
    """One schedule by Polars on a sorted Parquet copy."""
    given, stages = task.given, load_policy(POLICY).stages
    return lambda: peers.polars_schedule(Path(task.parquet), given, stages, [SENDER]), _check_totals


def pandas_pass(task: Task) -> Run:
    """The pass by pandas, rows in memory."""
    given = task.given
    return peers.pandas_cubes(Path(task.parquet), given), _check_cubes


def simpy_events(task: Task) -> Run:
    """One schedule by SimPy, rows in memory."""
    from peer_simpy import simpy_schedule  # noqa: PLC0415 - only this process needs what it imports

    return simpy_schedule(Path(task.events), task.given, load_policy(POLICY).stages, SENDER), _check_totals


VARIANTS: Final[dict[str, Callable[[Task], Run]]] = {
    run.__name__: run
    for run in (
        our_pass, our_one, our_thousand, our_thousand_one_by_one, our_hundred, our_one_more, our_second_pass,
        our_events, import_parquet, bare, bare_by_day, sql_pass, sql_schedules, polars_schedule, pandas_pass,
        simpy_events,
    )
}  # fmt: skip


# --- what must be equal: the same name has the same value in all variants on one store ---


def _check_exposure(found: Exposure) -> Check:
    return {"by day": _cells(found.by_day), "by group": _cells(found.by_group)}


def _cells(counts: Counts) -> Check:
    """Units are days, or products and deciles, in their order: as the peers number them."""
    unit, rest = np.divmod(counts.cells, CLOCKS * MINUTES)
    return _told(unit, rest // MINUTES, rest % MINUTES, counts.messages)


def _check_cubes(cubes: peers.Cubes) -> Check:
    return {"by day": _dense(cubes.by_day), "by group": _dense(cubes.by_group)}


def _dense(cube: peers.Floats) -> Check:
    """Where the clock stands still all minutes are one."""
    joined = np.concatenate([cube[:, :, :60, 1], cube[..., 0].sum(axis=2, keepdims=True)], axis=2)
    clock, unit, k = np.nonzero(joined)
    return _told(unit, clock, k, joined[clock, unit, k].astype(np.int64))


def _told(unit: peers.Ints, clock: peers.Ints, k: peers.Ints, messages: peers.Ints) -> Check:
    key = (unit * CLOCKS + clock) * MINUTES + k
    order = np.argsort(key)
    digest = hashlib.sha256(np.stack([key[order], messages[order]]).astype(np.int64).tobytes()).hexdigest()
    return {"cells": len(key), "messages": int(messages.sum()), "digest": digest}


def _check_schedules(*judged: Judged) -> Check:
    totals = []
    for one in judged:
        n_stages = len(one.policies[0].stages)
        delays = np.concatenate([one.stage_delay[0, :n_stages], one.product_delay[0], one.decile_delay[0]])[:, 1:]
        totals.append(
            peers.Totals(
                by_day=one.by_day[0], by_stage=one.by_stage[0, :n_stages], by_group=one.by_group[0], delays=delays
            )
        )
    return _check_totals(*totals)


def _check_totals(*totals: peers.Totals) -> Check:
    check: Check = {}
    for place, one in enumerate(totals):
        assert np.array_equal(one.by_day.sum(axis=0).round(), one.by_stage.sum(axis=0).round())
        check[f"schedule {place}, outcomes"] = one.by_stage.sum(axis=0).round().astype(int).tolist()
        check[f"schedule {place}, digest"] = _digest(
            one.by_day, one.by_stage, one.by_group, np.nan_to_num(one.delays, nan=-1)
        )
    return check


def _digest(*arrays: npt.NDArray[np.float64]) -> str:
    """Hash numbers that are whole up to rounding errors."""
    told = hashlib.sha256()
    for array in arrays:
        whole = np.rint(array)
        assert np.allclose(array, whole, rtol=1e-9, atol=1e-6), "not whole numbers"
        told.update(np.ascontiguousarray(whole, dtype=np.int64).tobytes())
    return told.hexdigest()


# --- one process ---


def measure(task: Task) -> dict[str, Any]:
    """Run one variant here: wall and CPU seconds of its call, and the most memory that the process ever held."""
    # The store's limit is the program's own; the benchmark sets it here to show what less would do.
    store_connection._LOCKED["memory_limit"] = task.memory_limit
    if task.variant != "pandas_pass":
        # Who uses the program has no pandas, but pyarrow loads it where it is: 0.2 s of each process.
        sys.modules["pandas"] = None  # type: ignore[assignment]  # so it cannot be imported
    run, check = VARIANTS[task.variant](task)
    wall, cpu = time.perf_counter(), _cpu_seconds()
    found = run()
    wall, cpu = time.perf_counter() - wall, _cpu_seconds() - cpu
    peak = peak_memory()
    return {"wall": wall, "cpu": cpu, "peak_gb": peak, "check": check(found)}


def _cpu_seconds() -> float:
    """User and system seconds of this process, all its threads, and of the processes that it ran."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def peak_memory() -> float:
    """Give the most memory that this process, or one that it ran, held, in GB."""
    unit = 1 if sys.platform == "darwin" else 1024
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit / 1e9
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss of oneself also knows what the parent held before this program began
        for line in status.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return max(children, int(line.split()[1]) * 1024 / 1e9)
    return max(children, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9)


if __name__ == "__main__":
    print(json.dumps(measure(Task(**json.loads(sys.argv[1])))))
