"""How the servers of a fleet meet a policy, laid out for the lives that are counted."""

import numpy as np
import numpy.typing as npt

from enforcement.chance import Bools, Ints
from enforcement.life_tables import LANDED, SERVER, Fleet, Way
from enforcement.outlook import Outlook
from enforcement.pressure import ACCEPTED, FAR


def way(look: Outlook, fleet: Fleet | None = None) -> Way:
    """Lay out an outlook; a fleet that was laid out for the same one with other pauses is taken as it is."""
    met = look.pressure
    starts, stages, piece_before = pieces(met.stages, accepted=len(look.delayed) - 1)
    shares = np.stack([look.delayed, look.lost], axis=1)
    stage = np.where(met.stages == ACCEPTED, len(shares) - 1, met.stages)
    return Way(
        fleet=fleet or _fleet(look),
        begins=_plain(look.plan.spells.begins),
        ends=_plain(met.ends.T),
        levels=_plain(met.end_levels.T),
        starts=starts,
        shares=shares[stages],
        piece_before=piece_before,
        hits=np.stack(runs((shares.sum(axis=1) > 0)[stage]), axis=2),
    )


def _fleet(look: Outlook) -> Fleet:
    landed = look.landed
    return Fleet(
        n_days=look.n_days,
        has_other_risk=look.has_other_risk,
        weekdays=_plain(look.weekdays),
        first=np.searchsorted(look.tenant, np.arange(look.n_tenants + 1)),
        servers=_table(
            SERVER, look.since, look.ended, look.seen, look.vulnerable_from, look.risk_from, *look.rows, landed.rows
        ),
        landed=_table(
            LANDED,
            landed.ended.T,
            landed.after_missing.T,
            landed.after_unsupported.T,
            landed.risk_after_missing.T,
            landed.risk_after_unsupported.T,
            landed.cohort_starts.T,
            landed.same_cohort.T,
        ),
        volume=np.array(look.volume.T, order="C"),
        subject=np.array(look.subject.T, order="C"),
    )


def _plain(numbers: Ints) -> Ints:
    """Copy numbers: what is compiled knows one layout only, and no array that may not be written to."""
    return np.array(numbers, dtype=np.int64, order="C")


def _table(kind: np.dtype[np.void], *columns: Ints | Bools) -> npt.NDArray[np.void]:
    """Lay columns of days out as rows; those that no forecast reaches are as good as FAR."""
    table = np.empty(columns[0].shape, dtype=kind)
    for name, column in zip(kind.names or (), columns, strict=True):
        table[name] = np.minimum(column, FAR)
    return table


def pieces(stages: npt.NDArray[np.int8], *, accepted: int) -> tuple[Ints, Ints, npt.NDArray[np.int16]]:
    """Cut rows of stages by day where they change; the first piece is the time before day 0.

    Gives (rows, pieces), the first day of each (days: none) and its stage, `accepted` being that of accepted mail; and
    (rows, days + 1), the piece of the day before each.

    >>> starts, stage, before = pieces(np.array([[ACCEPTED, ACCEPTED, 0, 1, 1]], dtype=np.int8), accepted=9)
    >>> starts.tolist(), stage.tolist(), before.tolist()
    ([[0, 2, 3]], [[9, 0, 1]], [[0, 0, 0, 1, 2, 2]])
    """
    n_rows, n_days = stages.shape
    stage = np.where(stages == ACCEPTED, accepted, stages).astype(np.int64)
    is_new = np.diff(stage, axis=1, prepend=accepted) != 0
    piece = np.concatenate([np.zeros((n_rows, 1), dtype=np.int64), np.cumsum(is_new, axis=1)], axis=1)
    starts = np.full((n_rows, int(piece.max()) + 1), n_days)
    found = np.full_like(starts, accepted)
    row, day = np.nonzero(is_new)
    starts[row, piece[row, day + 1]] = day
    found[row, piece[row, day + 1]] = stage[row, day]
    starts[:, 0] = 0
    return starts, found, piece.astype(np.int16)


def runs(marked: Bools) -> tuple[Ints, Ints]:
    """Give the first days, and those after the last, of each row's runs of marked days: (rows, runs), FAR: none.

    >>> from_day, until_day = runs(np.array([[False, True, True, False, True], [False] * 5]))
    >>> (from_day % FAR).tolist(), (until_day % FAR).tolist()
    ([[1, 4], [0, 0]], [[3, 5], [0, 0]])
    """
    n_rows = len(marked)
    edges = np.diff(np.pad(marked, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    found = []
    for sign in (1, -1):
        row, day = np.nonzero(edges == sign)
        count = np.bincount(row, minlength=n_rows)
        place = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
        of_row = np.full((n_rows, max(1, int(count.max(initial=0)))), FAR)
        of_row[row, place] = day
        found.append(of_row)
    return found[0], found[1]
