"""Which schedules no other beats: judged on the expected path by the risk left, the mail delayed and the mail lost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from enforcement.candidates import stages_in_words
from enforcement.chance import Bools, Floats, Ints
from enforcement.expected import Totals
from enforcement.policy import Policy
from enforcement.space import Bounds

# The less the better; never added up. With the words that people read.
OBJECTIVES: Final = {"accepted_vulnerable": "risk left", "delayed": "delayed", "lost": "lost"}
_DECIMALS: Final = 3  # of a message; less than that is rounding, and beats nobody


def non_dominated(points: Floats) -> Bools:
    """Mark the points that no other beats: none is as good in every column and better in one. The less the better.

    >>> non_dominated(np.array([[1.0, 2.0], [2.0, 1.0], [2.0, 2.0], [1.0, 2.0]])).tolist()
    [True, True, False, True]
    """
    distinct, place = np.unique(points, axis=0, return_inverse=True)  # in order: only earlier ones can beat a point
    best = np.zeros(len(distinct), dtype=np.bool_)
    front = np.empty_like(distinct)
    n = 0
    for number, point in enumerate(distinct):
        if not (front[:n] <= point).all(axis=1).any():
            front[n] = point
            n += 1
            best[number] = True
    return best[place.ravel()]


def beaten_by(point: Floats, points: Floats) -> Ints:
    """Give the places of the points that beat a point.

    >>> beaten_by(np.array([2.0, 2.0]), np.array([[2.0, 2.0], [1.0, 2.0]])).tolist()
    [1]
    """
    return np.flatnonzero((points <= point).all(axis=1) & (points < point).any(axis=1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontier:
    """Candidates judged and policies placed among them.

    table: a row a candidate: number (from 1), name, keeps_bounds, on_front, accepted_vulnerable (the risk left),
    delayed, lost (messages over the horizon), each as a share of all mail, vulnerable_servers (at the horizon),
    highest_delayed_of_a_week and highest_lost_of_a_week (shares of its mail), and what it is: stages, starts,
    pause_days, notice_days. placed: the same of the base and others, with beaten_by: the number of a candidate on the
    front that beats it (null: none does).
    """

    table: pl.DataFrame
    placed: pl.DataFrame
    policies: tuple[Policy, ...]
    mail: float

    @property
    def front(self) -> pl.DataFrame:
        """The candidates that no other beats, the one that loses least first."""
        return self.table.filter(pl.col("on_front")).sort("lost", "delayed", "number")


def frontier(
    policies: Sequence[Policy], judged: Totals, bounds: Bounds, others: Sequence[Policy], placed: Totals
) -> Frontier:
    """Find the candidates that keep the bounds and that no other of them beats, and place other policies among them.

    Raises LookupError when no candidate keeps the bounds.
    """
    table = _table(policies, judged, bounds)
    keeps = table["keeps_bounds"].to_numpy()
    if not keeps.any():
        least = table.select(pl.col("lost_share").min(), pl.col("delayed_share").min()).row(0)
        raise LookupError(
            f"none of {len(policies):,} candidates keeps the bounds on mail (the least lost is {100 * least[0]:.2f} %,"
            f" the least delayed {100 * least[1]:.2f} % of all mail)"
        )
    points = table.select(*OBJECTIVES).to_numpy()
    on_front = np.zeros(len(points), dtype=np.bool_)
    on_front[keeps] = non_dominated(points[keeps])
    table = table.with_columns(on_front=pl.Series(on_front)).select(
        "number", "name", "keeps_bounds", "on_front", pl.exclude("number", "name", "keeps_bounds", "on_front")
    )
    best = np.flatnonzero(on_front)
    beside = _table(others, placed, bounds).drop("number")
    beaters = [beaten_by(point, points[best]) for point in beside.select(*OBJECTIVES).to_numpy()]
    numbers = [int(best[found[0]]) + 1 if len(found) else None for found in beaters]
    return Frontier(
        table=table,
        placed=beside.with_columns(beaten_by=pl.Series(numbers, dtype=pl.Int64)),
        policies=tuple(policies),
        mail=judged.mail,
    )


def frontier_picture(of: Frontier, *, at_most: int = 1_000) -> pl.DataFrame:
    """Give the table of `charts_frontier.frontier_chart`: the front, policies placed, and others of the candidates.

    Of those that are beaten or break bounds, at most so many, spread evenly over their order, and of the policies
    placed those near the candidates, so that these are not squeezed into a corner; note says what is left out.
    """
    rest = of.table.filter(~pl.col("on_front"))
    every = max(1, -(-rest.height // at_most))
    shown = rest.gather_every(every)
    columns = ["number", "name", *OBJECTIVES, *(f"{name}_share" for name in OBJECTIVES), "stages"]
    is_near = _near(of.placed, of.table)
    near = of.placed.filter(is_near)
    parts = [
        (shown.select(columns), "beaten by another, or breaks a bound"),
        (of.front.select(columns), "beaten by none"),
        (near.select(pl.lit(None, dtype=pl.Int64).alias("number"), *columns[1:]), "the base and shipped policies"),
    ]
    cut = "" if every == 1 else f"; of those beaten {shown.height:,} of {rest.height:,} are shown"
    if far := of.placed.filter(~is_near)["name"].to_list():
        cut += f"; outside of the picture: {', '.join(far)}"
    return pl.concat(
        part.with_columns(kind=pl.lit(kind), label=pl.col("name") if place == 2 else pl.lit(""))
        for place, (part, kind) in enumerate(parts)
    ).with_columns(note=pl.lit(f"{of.front.height:,} of {of.table.height:,} candidates are beaten by none{cut}"))


def _near(placed: pl.DataFrame, table: pl.DataFrame) -> pl.Series:
    """Tell which policies lie within the span of the candidates, or half of it beside, in risk left and mail lost."""
    is_near = pl.Series([True] * placed.height, dtype=pl.Boolean)
    for name in ("accepted_vulnerable", "lost"):
        low, high = (float(value) for value in table.select(pl.col(name).min(), pl.col(name).max().alias("max")).row(0))
        room = max((high - low) / 2, 0.05 * abs(high))
        is_near &= placed[name].is_between(low - room, high + room)
    return is_near


def _table(policies: Sequence[Policy], judged: Totals, bounds: Bounds) -> pl.DataFrame:
    objectives = {name: np.round(getattr(judged, name), _DECIMALS) for name in OBJECTIVES}
    table = pl.DataFrame(
        {
            "number": np.arange(1, len(policies) + 1),
            "name": [policy.name for policy in policies],
            **objectives,
            **{f"{name}_share": values / judged.mail for name, values in objectives.items()},
            "vulnerable_servers": judged.vulnerable_servers,
            "highest_delayed_of_a_week": judged.highest_delayed_of_a_week,
            "highest_lost_of_a_week": judged.highest_lost_of_a_week,
            "stages": [stages_in_words(policy) for policy in policies],
            "starts": [", ".join(str(cohort.starts_on) for cohort in policy.cohorts) for policy in policies],
            "pause_days": [policy.pause.days_per_year if policy.pause else 0 for policy in policies],
            "notice_days": pl.Series(
                [policy.notice.targeted_days_before if policy.notice else None for policy in policies], dtype=pl.Int64
            ),
        }
    )
    limits = {
        "lost_share": bounds.lost_share_of_mail,
        "delayed_share": bounds.delayed_share_of_mail,
        "highest_lost_of_a_week": bounds.lost_share_of_a_week,
        "highest_delayed_of_a_week": bounds.delayed_share_of_a_week,
    }
    kept = [pl.col(column) <= limit for column, limit in limits.items() if limit is not None]
    return table.with_columns(keeps_bounds=pl.all_horizontal(kept) if kept else pl.lit(value=True))
