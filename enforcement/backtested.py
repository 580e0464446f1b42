"""How far forecasts can be trusted on one's own history: the back-test that a page shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
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
    source: str
    n_servers: int
    n_tenants: int


def backtested(setting: Setting, *, history: Path | None, cuts: Sequence[date] | None = None, seed: int) -> Backtested:
    """Score forecasts from some days, or every 13 weeks, on the store's sightings or on a table of patching."""
    known = patch_histories(store=setting.store, table=history, to_on=setting.to_on)
    left_out: list[str] = []
    scores, why = _scored(known, cuts, seed, left_out)
    fewer = scores.clear()
    if scores.height:
        fewer, _ = _scored(known.without_tenant(known.largest_tenant), cuts, seed, [])
    return Backtested(
        scores=scores,
        why_none=why,
        left_out=tuple(left_out),
        without_largest=fewer,
        source=history.name if history else f"sightings of {setting.store.name}",
        n_servers=len(known.servers),
        n_tenants=len(known.tenants),
    )


def _scored(known: Histories, asked: Sequence[date] | None, seed: int, left_out: list[str]) -> tuple[pl.DataFrame, str]:
    nothing = pl.DataFrame(schema=dict(BACKTEST))
    cuts = sorted(set(asked)) if asked else quarterly_cuts(known)
    if not cuts:
        return nothing, TOO_SHORT
    try:
        return backtest(known, cuts, seed=seed, leave_out=left_out.append), ""
    except ThinError as problem:
        return nothing, str(problem)
