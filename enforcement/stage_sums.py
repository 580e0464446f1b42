"""Exposed messages added up by stage: with counts cumulated along the clock, a stage is one subtraction."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np

from enforcement.exposure import CLOCKS, MINUTES, STILL, Counts, Ints
from enforcement.fates import AT_ONCE, Floats
from enforcement.policy import Policy
from enforcement.verdict import Held

_MOST_EMPTY: Final = 16  # times as many places as counts: then counts stay rows
_TABLE_OCTETS: Final = 512 * 1024**2  # of the tables that one of them keeps


class Worth(NamedTuple):
    """What becomes of one message, in whole numbers: (pairs of minutes, 60, senders, measures); the senders' shares."""

    of: Callable[[Sequence[Held]], Floats]
    shares: Floats


class StageSums:
    """Adds up what messages are worth, by unit and stage, for any stages.

    A worth gives measures of one message by minute of the window and sender, the first of them AT_ONCE. The senders'
    shares come in after the subtractions: whole numbers are subtracted exactly, however large.
    """

    def __init__(self, counts: Counts, worth: Worth) -> None:
        unit, rest = np.divmod(counts.cells, CLOCKS * MINUTES)
        clock, minute = np.divmod(rest, MINUTES)
        clocks = np.flatnonzero(np.bincount(clock, minlength=CLOCKS))
        self._n_units = counts.units.height
        n_places = (len(clocks) + 1) * self._n_units * MINUTES
        is_sparse = not len(clock) or n_places > _MOST_EMPTY * len(clock)
        self._sums: _Cumulated | _Rows = (
            _Rows(self._n_units, (unit, clock, minute), counts.messages, worth)
            if is_sparse
            else _Cumulated(self._n_units, clocks, (unit, clock, minute), counts.messages, worth)
        )

    def prepare(self, pairs: Sequence[Held]) -> None:
        """Work out what stages with these minutes will need, all at once."""
        self._sums.prepare(pairs)

    def sums(self, policies: Sequence[Policy]) -> Floats:
        """Add up by policy, stage, measure and unit; 0 past a policy's last stage."""
        return self._sums.sums(policies)


class _Cumulated:
    """Counts with a place for each clock and unit, cumulated along the clock; a table of measures a pair of minutes."""

    def __init__(self, n_units: int, clocks: Ints, at: tuple[Ints, Ints, Ints], messages: Ints, worth: Worth) -> None:
        unit, clock, minute = at
        self._clocks = clocks
        self._worth = worth
        self._n_measures = worth.of([]).shape[3]
        shape = (MINUTES, len(self._clocks) + 1, n_units)
        counts = np.zeros(shape)
        counts[minute, (np.searchsorted(clocks, np.arange(CLOCKS)) + 1)[clock], unit] = messages
        np.cumsum(counts, axis=1, out=counts)
        self._running, self._still = counts[:STILL].reshape(STILL, -1), counts[STILL]
        self._shape = shape[1:]
        self._tables: OrderedDict[Held, Floats] = OrderedDict()  # the longest unused first

    def prepare(self, pairs: Sequence[Held]) -> None:
        new = [pair for pair in pairs if pair not in self._tables][: self._most_tables]
        if not new:
            return
        worth = self._worth.of(new).transpose(0, 2, 3, 1).reshape(-1, STILL)
        tables = (worth @ self._running).reshape(len(new), len(self._worth.shares), self._n_measures, *self._shape)
        tables[:, :, AT_ONCE] += self._still  # the verdict is accept while the clock stands still
        self._tables.update((pair, table.copy()) for pair, table in zip(new, tables, strict=True))
        while len(self._tables) > self._most_tables:
            self._tables.popitem(last=False)

    @property
    def _most_tables(self) -> int:
        octets = 8 * len(self._worth.shares) * self._n_measures * self._shape[0] * self._shape[1]
        return max(8, _TABLE_OCTETS // octets)  # at least the stages of one policy

    def sums(self, policies: Sequence[Policy]) -> Floats:
        n_stages = max(len(policy.stages) for policy in policies)
        found = np.zeros((len(policies), n_stages, self._n_measures, self._shape[1]))
        uses: dict[Held, list[tuple[int, int, int, int]]] = {}
        for number, policy in enumerate(policies):
            ends = self._clocks.searchsorted([*policy.stage_starts, CLOCKS]).tolist()
            for stage, minutes in enumerate(policy.stage_minutes):
                uses.setdefault(minutes, []).append((number, stage, ends[stage], ends[stage + 1]))
        for minutes, places in uses.items():
            numbers, stages, first, last = zip(*places, strict=True)
            table = self._table(minutes)
            counted = table[:, :, last] - table[:, :, first]
            found[numbers, stages] = np.tensordot(self._worth.shares, counted, axes=(0, 0)).swapaxes(0, 1)
        return found

    def _table(self, minutes: Held) -> Floats:
        if minutes not in self._tables:
            self.prepare([minutes])
        self._tables.move_to_end(minutes)
        return self._tables[minutes]


class _Rows:
    """Counts as rows, for histories of which most days and clocks hold nothing."""

    def __init__(self, n_units: int, at: tuple[Ints, Ints, Ints], messages: Ints, worth: Worth) -> None:
        self._unit, self._clock, self._minute = at
        self._messages = messages.astype(np.float64)
        self._n_units = n_units
        self._worth = worth

    def prepare(self, pairs: Sequence[Held]) -> None:
        """Rows are judged as they are."""

    def sums(self, policies: Sequence[Policy]) -> Floats:
        n_stages = max(len(policy.stages) for policy in policies)
        sums = [self._of_one(policy) for policy in policies]
        return np.stack([np.pad(each, ((0, n_stages - len(each)), (0, 0), (0, 0))) for each in sums])

    def _of_one(self, policy: Policy) -> Floats:
        worth = np.tensordot(self._worth.of(policy.stage_minutes), self._worth.shares, axes=(2, 0))
        n_stages = len(policy.stages)
        stage = np.searchsorted(policy.stage_starts, self._clock, side="right") - 1
        cell = (stage * self._n_units + self._unit) * MINUTES + self._minute
        shape = (n_stages, self._n_units, MINUTES)
        counts = np.bincount(cell, self._messages, int(np.prod(shape))).reshape(shape)
        sums = (counts[:, :, :STILL] @ worth).swapaxes(1, 2)
        sums[:, AT_ONCE] += counts[:, :, STILL]
        return sums
