"""How far forecasts can be trusted on one's own history: the back-test that a page shows."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from enforcement.backtest import BACKTEST, TOO_SHORT, ThinError, backtest, quarterly_cuts
from enforcement.patching import Histories
from enforcement.seen_patching import patch_histories
from enforcement.workbench import Setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Backtested:
    """Scores of forecasts from days in the past (BACKTEST; empty: why_none), again without the largest tenant.

    left_out: why days in between were not forecast from.
    """

    scores: pl.DataFrame
    why_none: str
    left_out: tuple[str, ...]
    without_largest: pl.DataFrame
    n_servers: int
    n_tenants: int


def backtested(setting: Setting, *, history: Path | None, seed: int) -> Backtested:
    """Score forecasts every 13 weeks, from the store's sightings or from a table of patching."""
    known = patch_histories(store=setting.store, table=history, to_on=setting.to_on)
    left_out: list[str] = []
    scores, why = _scored(known, seed, left_out)
    fewer = scores.clear()
    if scores.height:
        fewer, _ = _scored(known.without_tenant(known.largest_tenant), seed, [])
    return Backtested(
        scores=scores,
        why_none=why,
        left_out=tuple(left_out),
        without_largest=fewer,
        n_servers=len(known.servers),
        n_tenants=len(known.tenants),
    )


def _scored(known: Histories, seed: int, left_out: list[str]) -> tuple[pl.DataFrame, str]:
    nothing = pl.DataFrame(schema=dict(BACKTEST))
    cuts = quarterly_cuts(known)
    if not cuts:
        return nothing, TOO_SHORT
    try:
        return backtest(known, cuts, seed=seed, leave_out=left_out.append), ""
    except ThinError as problem:
        return nothing, str(problem)
