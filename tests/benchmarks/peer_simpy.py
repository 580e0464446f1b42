"""What one would write with SimPy: every message is an event, and so is every retry."""

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import simpy
from peers import FIRST, Floats, Inputs, Totals, delays_of, stages_of_clock
from traffic import DAYS

from enforcement.policy import Stage
from enforcement.verdict import Sender, Verdict, verdict_at

Events = Generator[simpy.Event, Any, None]


class Simulation:
    """Messages that meet a schedule one by one; only those that the policy may touch are processes of their own."""

    def __init__(self, given: Inputs, stages: Sequence[Stage], sender: Sender) -> None:
        self._lives: dict[tuple[int, int], list[tuple[int, ...]]] = {}
        columns = ("server_id", "build_id", "lo", "hi", "clock_at_0", "running", "group")
        for server, build, *life in given.segments.select(columns).iter_rows():
            self._lives.setdefault((server, build), []).append(tuple(life))
        self._given, self._stages, self._sender = given, stages, sender
        self._stage_of_clock = stages_of_clock(stages)
        self._environment = simpy.Environment()
        self._by_day, self._by_stage = np.zeros((DAYS, 5)), np.zeros((len(stages), 5))
        self._by_group = np.zeros((given.groups.height, 5))
        self._late: dict[int, Floats] = {}

    def totals(self, rows: list[tuple[int, int, int, int]]) -> Totals:
        """Simulate messages (minute since 1970, day, server, build) in order of time."""
        self._environment.process(self._arrive(rows))
        self._environment.run()
        return Totals(
            by_day=self._by_day,
            by_stage=self._by_stage,
            by_group=self._by_group,
            delays=delays_of(dict(sorted(self._late.items())), self._given.groups),
        )

    def _arrive(self, rows: list[tuple[int, int, int, int]]) -> Events:
        nobody: list[tuple[int, ...]] = []
        now = 0
        for at_minute, day, server, build in rows:
            if at_minute > now:
                yield self._environment.timeout(at_minute - now)
                now = at_minute
            for lo, hi, clock, running, group in self._lives.get((server, build), nobody):
                if lo <= day < hi:
                    place = (day - FIRST, self._stage_of_clock[clock + running * day], group)
                    if running:
                        self._environment.process(self._send(now, place))
                    else:
                        self._note(place, 0, 0)

    def _send(self, began: int, place: tuple[int, int, int]) -> Events:
        stage, waits = self._stages[place[1]], self._sender.retry_minutes
        waited, deferred = 0, 0
        verdict = verdict_at(began % 60, throttle=stage.throttle, block=stage.block)
        while verdict is Verdict.DEFER:
            wait = waits[min(deferred, len(waits) - 1)]
            deferred += 1
            waited += wait
            if waited > self._sender.gives_up_after_hours * 60:
                self._note(place, 3, deferred)
                return
            yield self._environment.timeout(wait)
            verdict = verdict_at((began + waited) % 60, throttle=stage.throttle, block=stage.block)
        if verdict is Verdict.REJECT:
            self._note(place, 2, deferred)
        elif deferred:
            late = self._late.setdefault(waited, np.zeros((len(self._by_group), len(self._by_stage))))
            late[place[2], place[1]] += 1
            self._note(place, 1, deferred)
        else:
            self._note(place, 0, 0)

    def _note(self, place: tuple[int, int, int], outcome: int, deferred: int) -> None:
        for table, row in zip((self._by_day, self._by_stage, self._by_group), place, strict=True):
            table[row, outcome] += 1
            table[row, 4] += deferred


def simpy_schedule(path: Path, given: Inputs, stages: Sequence[Stage], sender: Sender) -> Callable[[], Totals]:
    """Read messages in order of time, and give the function that simulates them."""
    rows = pl.read_parquet(path).select("at_minute", "day", "server_id", "build_id").rows()
    simulation = Simulation(given, stages, sender)
    return lambda: simulation.totals(rows)
