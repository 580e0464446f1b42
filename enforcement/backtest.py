"""How good forecasts would have been: cut history at a day, forecast the weeks after, and score what came."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import numpy as np
import polars as pl

from enforcement.chance import Bools, Floats, stream
from enforcement.hazards import PRIOR_EVENTS
from enforcement.patch_forecast import (
    IN_SIGHT_WEEKS,
    PATIENCE_CORRELATION,
    RATES_FROM_WEEKS,
    VULNERABLE_AFTER_DAYS,
    Learnt,
    Standings,
    courses,
    learn,
    standings_on,
)
from enforcement.patching import NEVER, WEEK, Histories, is_vulnerable
from enforcement.schema import conform, day_from_number, day_number

HORIZON_WEEKS: Final = 26
CUT_WEEKS: Final = 13
FEWEST_EVENTS: Final = 30
FEWEST_SERVERS: Final = 8
N_DRAWS: Final = 400
TOO_SHORT: Final = "the history is too short: no day has two years of visible updates before it and 26 weeks after it"

# A row: a cut, or all of them (null). Shares in percent points; `events` are those that the calibration rests on.
# effective_…: how many that have nothing to do with each other would tell as much. Tenants: (Σ n)² / Σ n² of their
# servers n; servers: at the correlation within tenants that forecasts assume; events: by the range of the mean rate.
BACKTEST: Final = {
    "cut": pl.Date,
    "weeks": pl.Int64,
    "servers": pl.Int64,
    "tenants": pl.Int64,
    "events": pl.Int64,
    "server_weeks": pl.Float64,
    "effective_servers": pl.Float64,
    "effective_tenants": pl.Float64,
    "effective_events": pl.Float64,
    "cover_90": pl.Float64,
    "cover_50": pl.Float64,
    "crps": pl.Float64,
    "bias": pl.Float64,
    "width_90": pl.Float64,
    "crps_last_value": pl.Float64,
    "crps_constant_rate": pl.Float64,
}

SCORES: Final = tuple(BACKTEST)[tuple(BACKTEST).index("cover_90") :]


class ThinError(ValueError):
    """A cut that has too little before it to learn from, or after it to score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """What came: in each week which servers of the fleet were in sight, and which of these were vulnerable."""

    in_sight: Bools
    vulnerable: Bools

    @property
    def shares(self) -> Floats:
        """The vulnerable servers of each week in percent of those in sight."""
        return _percent(self.vulnerable[None], self.in_sight)[0]

    @property
    def counts(self) -> Bools:
        """The weeks with enough servers in sight to score."""
        return self.in_sight.sum(axis=1) >= FEWEST_SERVERS


def backtest(  # noqa: PLR0913 - what is scored, and who is told
    all_: Histories,
    cuts: Sequence[date],
    *,
    seed: int = 1,
    n_draws: int = N_DRAWS,
    report: Callable[[str, int, int], None] | None = None,
    leave_out: Callable[[str], None] | None = None,
) -> pl.DataFrame:
    """Score forecasts from each cut, and all of them together in the last row: BACKTEST.

    Cuts a quarter apart share weeks, servers and events: all together are means (`pooled`), and only weeks are summed.
    A cut that has too little before or after it to be scored is an error, unless `leave_out` takes why it is left out.
    """
    rows = []
    problems = []
    for done, cut in enumerate(cuts):
        if report is not None:
            report(f"forecasting from {cut}", done, len(cuts))
        try:
            rows.append(_score(all_, cut, seed=seed, n_draws=n_draws))
        except ThinError as problem:
            problems.append(problem)
            if leave_out is None:
                raise
            leave_out(str(problem))
    if problems and not rows:
        raise problems[-1]
    frame = conform(pl.DataFrame(rows), BACKTEST, what="backtest")
    return pl.concat([frame, pooled(frame)])


def pooled(frame: pl.DataFrame) -> pl.DataFrame:
    """Give the row of all cuts: weeks in all, counts as means a cut (whole), scores as means a week.

    >>> row = {name: 1.0 for name in BACKTEST} | {"cut": date(2024, 1, 30), "weeks": 26}
    >>> frame = conform(pl.DataFrame([row, row | {"weeks": 13, "cover_90": 0.25}]), BACKTEST, what="backtest")
    >>> pooled(frame).select("cut", "weeks", "servers", "cover_90").row(0)
    (None, 39, 1, 0.75)
    """
    counts = pl.col("servers", "tenants", "events").mean().round(0).cast(pl.Int64)
    sizes = pl.col("server_weeks", "^effective_.*$").mean()
    scores = [(pl.col(name) * pl.col("weeks")).sum() / pl.col("weeks").sum() for name in SCORES]
    no_cut = pl.lit(None, dtype=pl.Date).alias("cut")
    return conform(frame.select(no_cut, pl.col("weeks").sum(), counts, sizes, *scores), BACKTEST, what="backtest")


def quarterly_cuts(all_: Histories) -> list[date]:
    """Give days 13 weeks apart, the last one followed by a whole horizon, the first one preceded by two years."""
    if not len(all_.server):
        return []
    last = all_.seen_at.max() - HORIZON_WEEKS * WEEK
    first = all_.updates[0] + RATES_FROM_WEEKS * WEEK if len(all_.updates) else NEVER
    first = max(first, all_.first.min())
    n = int((last - first) // (CUT_WEEKS * WEEK))
    return [day_from_number(int(last - CUT_WEEKS * WEEK * step)) for step in range(n, -1, -1)]


def crps(ensemble: Floats, truth: Floats) -> Floats:
    """Give the continuous ranked probability score of each column of an ensemble.

    >>> crps(np.array([[0.0], [2.0]]), np.array([1.0])).tolist()
    [0.5]
    """
    n = len(ensemble)
    ordered = np.sort(ensemble, axis=0)
    weights = (2 * np.arange(1, n + 1) - n - 1)[:, None]
    spread = (weights * ordered).sum(axis=0) / n**2
    return np.abs(ensemble - truth).mean(axis=0) - spread


def what_came(all_: Histories, fleet: Standings, cut: float) -> Scored:
    """Look up which servers of a fleet were in sight in the weeks after a cut, and how they then stood."""
    place = np.full(len(all_.servers), -1)
    place[fleet.server] = np.arange(len(fleet.server))
    of_seen = place[all_.server[all_.seen_spell]]
    spell_place = place[all_.server]
    in_sight = np.zeros((HORIZON_WEEKS, len(fleet.server)), dtype=np.bool_)
    vulnerable = np.zeros_like(in_sight)
    for week in range(HORIZON_WEEKS):
        at = cut + (week + 1) * WEEK
        seen = of_seen[(all_.seen_at > at - IN_SIGHT_WEEKS * WEEK) & (all_.seen_at <= at)]
        in_sight[week, seen[seen >= 0]] = True
        holds = (all_.first <= at) & (at < all_.end) & (spell_place >= 0)
        is_so = is_vulnerable(all_.missing[holds], all_.unsupported[holds], at, after_days=VULNERABLE_AFTER_DAYS)
        vulnerable[week, spell_place[holds]] = is_so
    return Scored(in_sight=in_sight, vulnerable=vulnerable)


def _score(all_: Histories, cut_on: date, *, seed: int, n_draws: int) -> dict[str, object]:
    cut = float(day_number(cut_on))
    known = all_.known_on(cut)
    seen_again = np.isin(np.arange(len(all_.servers)), all_.server[all_.seen_spell[all_.seen_at > cut]])
    fleet = _only(standings_on(known, cut), seen_again)
    rng = stream(seed, day_number(cut_on))
    learnt = learn(known, cut, rng=rng, n_draws=n_draws)
    if learnt.n_events < FEWEST_EVENTS:
        raise ThinError(
            f"cut {cut_on}: {learnt.n_events} changes in the two years before (expected {FEWEST_EVENTS} or more)"
        )
    came = what_came(all_, fleet, cut)
    weeks = came.counts
    if not weeks.any():
        raise ThinError(
            f"cut {cut_on}: {len(fleet.server)} servers in sight before and after (expected {FEWEST_SERVERS} or more)"
        )
    truth = came.shares[weeks]
    ensemble = _percent(courses(fleet, learnt, HORIZON_WEEKS, rng=rng), came.in_sight)[:, weeks]
    low90, low50, high50, high90 = np.quantile(ensemble, [0.05, 0.25, 0.75, 0.95], axis=0)
    now = is_vulnerable(fleet.missing, fleet.unsupported, cut, after_days=VULNERABLE_AFTER_DAYS)
    same = np.broadcast_to(now, (1, HORIZON_WEEKS, len(now)))
    sizes = np.bincount(fleet.tenant)
    return {
        "cut": cut_on,
        "weeks": int(weeks.sum()),
        "servers": len(fleet.server),
        "tenants": int((sizes > 0).sum()),
        "events": learnt.n_events,
        "server_weeks": learnt.server_weeks,
        "effective_servers": float(sizes.sum() ** 2 / (sizes + (sizes - 1) * sizes * PATIENCE_CORRELATION).sum()),
        "effective_tenants": float(sizes.sum() ** 2 / (sizes**2).sum()),
        "effective_events": learnt.effective_events,
        "cover_90": 100 * float(((low90 <= truth) & (truth <= high90)).mean()),
        "cover_50": 100 * float(((low50 <= truth) & (truth <= high50)).mean()),
        "crps": float(crps(ensemble, truth).mean()),
        "bias": float((ensemble.mean(axis=0) - truth).mean()),
        "width_90": float((high90 - low90).mean()),
        "crps_last_value": float(crps(_percent(same, came.in_sight)[:, weeks], truth).mean()),
        "crps_constant_rate": float(
            crps(_percent(_constant_rate(now, learnt, n_draws, rng), came.in_sight)[:, weeks], truth).mean()
        ),
    }


def _constant_rate(now: Bools, learnt: Learnt, n_draws: int, rng: np.random.Generator) -> Bools:
    """Draw the naive course: those vulnerable now are patched at the rate of the last two years, and none is new."""
    rate = (learnt.n_events + PRIOR_EVENTS) / (learnt.server_weeks + 1)
    patched_after = rng.standard_exponential((n_draws, 1, len(now))) / rate
    return now & (patched_after > np.arange(1, HORIZON_WEEKS + 1)[None, :, None])


def _percent(vulnerable: Bools, in_sight: Bools) -> Floats:
    """Give the vulnerable in percent of those in sight, by draw and week."""
    seen = np.maximum(1, in_sight.sum(axis=1))
    return np.asarray(100 * np.einsum("dws,ws->dw", vulnerable.astype(np.float64), in_sight.astype(np.float64)) / seen)


def _only(fleet: Standings, is_kept: Bools) -> Standings:
    kept = is_kept[fleet.server]
    return Standings(
        server=fleet.server[kept],
        tenant=fleet.tenant[kept],
        missing=fleet.missing[kept],
        unsupported=fleet.unsupported[kept],
        start=fleet.start[kept],
    )


def shipped_cuts() -> list[date]:
    """Give the 14 quarterly cuts from 2022-02-01 to 2025-04-29, on which the forecasts were first judged."""
    return [date(2022, 2, 1) + timedelta(weeks=CUT_WEEKS * step) for step in range(14)]
