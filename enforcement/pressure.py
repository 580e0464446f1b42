"""What a server meets on each day under a policy: nothing, a notice, throttling, a partial block, or a full one."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from enforcement.chance import Bools, Ints
from enforcement.policy import Phase

Table = npt.NDArray[np.int8]

FAR: Final = 100_000  # a day that no forecast reaches
ACCEPTED: Final = -1  # in place of a stage: mail is accepted


class Level(IntEnum):
    """What a server meets, in rising order; places in the factors of a draw."""

    NOTHING = 0
    NOTICED = 1
    THROTTLED = 2
    PARTLY_BLOCKED = 3
    FULLY_BLOCKED = 4


LEVEL_OF: Final = {
    Phase.REPORT: Level.NOTICED,
    Phase.THROTTLE: Level.THROTTLED,
    Phase.BLOCK_PARTLY: Level.PARTLY_BLOCKED,
    Phase.BLOCK_MORE: Level.PARTLY_BLOCKED,
    Phase.BLOCK_ALL: Level.FULLY_BLOCKED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Spells:
    """Ways to meet a policy, one each row: when enforcement begins, the clock then, and on which days it stands still.

    begins: the first day under enforcement (FAR: never), 0 for one that lasts on day 0 already; clocks: the clock on
    that day; noticed_from: the day of the targeted notice (FAR: none); still: rows of a table of still days.
    """

    begins: Ints
    clocks: Ints
    noticed_from: Ints
    still: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressure:
    """What spells meet by day, from day 0 on.

    stages: (rows, days + 1), the stage from 0 or ACCEPTED; levels: the same as Level; ends: (pieces, rows), the last
    days of the pieces of like level, rising, the last ones at the horizon; end_levels: the level of each piece.
    """

    stages: Table
    levels: Table
    ends: Ints
    end_levels: Ints


def pressure(spells: Spells, still_days: Bools, stage_starts: Sequence[int], phases: Sequence[Phase]) -> Pressure:
    """Say what each spell meets on each day; `still_days` has a row a kind of server and a column a day from day 0.

    >>> one = Spells(
    ...     begins=np.array([2]), clocks=np.array([0]), noticed_from=np.array([1]), still=np.array([0]))
    >>> met = pressure(one, np.zeros((1, 8), dtype=bool), (0, 3), (Phase.REPORT, Phase.BLOCK_ALL))
    >>> met.levels[0].tolist(), met.stages[0].tolist(), met.ends[:, 0].tolist()
    ([0, 1, 1, 1, 1, 4, 4, 4], [-1, -1, 0, 0, 0, 1, 1, 1], [4, 7])
    """
    n_days = still_days.shape[1]
    day = np.arange(n_days)
    run = np.zeros((len(still_days), n_days + 1), dtype=np.int64)
    np.cumsum(~still_days, axis=1, out=run[:, 1:])  # running days before each day
    begins = np.minimum(spells.begins, n_days)[:, np.newaxis]
    before = np.take_along_axis(run[spells.still], begins, axis=1)
    clock = spells.clocks[:, np.newaxis] + run[spells.still, :n_days] - before
    is_on = day >= begins
    stage = np.searchsorted(np.asarray(stage_starts), clock, side="right") - 1
    stops = is_on & still_days[spells.still]
    of_stage = np.array([LEVEL_OF[phase] for phase in phases])
    is_told = stops | (day >= spells.noticed_from[:, np.newaxis])
    levels = np.where(is_on & ~stops, of_stage[stage], np.where(is_told, Level.NOTICED, Level.NOTHING)).astype(np.int8)
    return _cut(np.where(is_on & ~stops, stage, ACCEPTED).astype(np.int8), levels)


def replaced(met: Pressure, rows: Ints, others: Pressure) -> Pressure:
    """Give what spells meet with some rows replaced by others.

    >>> still = Spells(begins=np.array([9]), clocks=np.array([0]), noticed_from=np.array([9]), still=np.array([0]))
    >>> noticed = Spells(begins=np.array([9]), clocks=np.array([0]), noticed_from=np.array([3]), still=np.array([0]))
    >>> met, other = (pressure(one, np.zeros((1, 5), dtype=bool), (0,), (Phase.REPORT,)) for one in (still, noticed))
    >>> replaced(met, np.array([0]), other).levels.tolist()
    [[0, 0, 0, 1, 1]]
    """
    stages, levels = met.stages.copy(), met.levels.copy()
    stages[rows], levels[rows] = others.stages, others.levels
    return _cut(stages, levels)


def _cut(stages: Table, levels: Table) -> Pressure:
    ends = _ends(levels)
    end_levels = np.take_along_axis(levels, ends.T, axis=1).T.astype(np.int64)
    return Pressure(stages=stages, levels=levels, ends=ends, end_levels=end_levels)


def _ends(levels: Table) -> Ints:
    """Give the last days of pieces of like level, from day 1 on: (pieces, rows)."""
    n_rows, n_days = levels.shape
    row, at = np.nonzero(levels[:, 2:] != levels[:, 1:-1])
    counts = np.bincount(row, minlength=n_rows)
    place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    ends = np.full((int(counts.max(initial=0)) + 1, n_rows), n_days - 1)
    ends[place, row] = at + 1
    return ends
