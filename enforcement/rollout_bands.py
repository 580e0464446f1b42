"""What draws say together: bands, differences draw by draw, and the figures of a few days and of all days."""

from dataclasses import replace
from typing import Final

import numpy as np
import polars as pl

from enforcement.chance import Floats, Ints
from enforcement.policy import NO_POLICY
from enforcement.rollout import TIMES, Rollout

QUANTILES: Final = {"low_90": 0.05, "low_50": 0.25, "median": 0.5, "high_50": 0.75, "high_90": 0.95}
SUMMED: Final = ("accepted_vulnerable", "delayed", "lost")  # messages; the other measures are counted on a day
FEWEST_SERVERS: Final = 20  # of fewer, or of fewer tenants, an answer is thin: their chance is not that of many
FEWEST_TENANTS: Final = 5
FEWEST_DRAWS: Final = 100  # of fewer, a 90 % band is mostly chance
_WEEK: Final = 7  # days


def bands(values: Floats, *, axis: int = 0) -> Floats:
    """Give the quantiles of QUANTILES over draws, and after them the mean: (6, …). A quantile is one of the draws.

    >>> bands(np.arange(101.0)).tolist()
    [5.0, 25.0, 50.0, 75.0, 95.0, 50.0]
    """
    with np.errstate(invalid="ignore"):  # times that are not reached are infinite
        quantiles = np.quantile(values, list(QUANTILES.values()), axis=axis, method="inverted_cdf")
        return np.concatenate([quantiles, np.mean(values, axis=axis, keepdims=False)[np.newaxis]])


def bands_frame(of: Rollout) -> pl.DataFrame:
    """Give the bands by day: policy, measure, day, date, low_90, low_50, median, high_50, high_90, mean."""
    return _bands_on(of, np.arange(of.n_days + 1))


def _bands_on(of: Rollout, days: Ints) -> pl.DataFrame:
    """Give the bands of outcomes of some days."""
    parts, dates = [], [of.days[day] for day in days]
    for place, policy in enumerate(of.policies):
        for measure, values in of.outcomes.items():
            found = dict(zip((*QUANTILES, "mean"), bands(values[place]), strict=True))
            told = {"policy": policy, "measure": measure}
            parts.append(pl.DataFrame({"day": days, "date": dates} | found).select(
                *(pl.lit(value).alias(name) for name, value in told.items()), pl.all()
            ))  # fmt: skip
    return pl.concat(parts)


def bands_picture(of: Rollout, *, note: str = "") -> pl.DataFrame:
    """Give the table of `charts_rollout.bands_by_day`; a policy named `none` is the baseline. Thin answers say so.

    Messages are the mean a day of each whole week, as weekends would hide all else.
    """
    said = "; ".join(filter(None, [note, *(f"{policy}: {thin}" for policy, thin in thinness(of).items())]))
    width = min(_WEEK, of.n_days + 1)
    days = np.arange((of.n_days + 1) // width) * width
    weekly = {name: np.stack([of.outcomes[name][:, :, day : day + width].mean(axis=2) for day in days], axis=2)
              for name in SUMMED}  # fmt: skip
    by_week = replace(of, outcomes=weekly)
    parts = [bands_frame(replace(of, outcomes={k: v for k, v in of.outcomes.items() if k not in SUMMED}))]
    parts.append(_bands_on(by_week, days))
    is_last = pl.col("day") == pl.col("day").max().over("measure")
    return (
        pl.concat(parts)
        .with_columns(is_baseline=pl.col("policy") == NO_POLICY, note=pl.lit(said))
        .with_columns(label=pl.when(is_last).then("policy").otherwise(pl.lit("")))
        .pipe(_with_places)
    )


def _with_places(table: pl.DataFrame) -> pl.DataFrame:
    """Place each policy's name at the end of its line, and names apart: column label_at."""
    places = {}
    for (measure,), of_measure in table.group_by("measure", maintain_order=True):
        gap = 0.07 * float(of_measure["high_90"].to_numpy().max(initial=0))
        named = of_measure.filter(pl.col("label") != "").sort("median", "policy")
        last = -np.inf
        for policy, middle in named.select("policy", "median").iter_rows():
            last = max(middle, last + gap)
            places[measure, policy] = last
    keys = zip(table["measure"], table["policy"], strict=True)
    return table.with_columns(label_at=pl.Series([places[key] for key in keys], dtype=pl.Float64))


def totals_frame(of: Rollout) -> pl.DataFrame:
    """Give the bands of what comes together over all days to come, and the most tenants hit on a day.

    Columns policy, measure (accepted_vulnerable, delayed, lost: messages; tenants_hit), and the bands.
    """
    rows = []
    for place, policy in enumerate(of.policies):
        for measure in (*SUMMED, "tenants_hit"):
            values = of.outcomes[measure][place][:, 1:]
            whole = values.sum(axis=1) if measure in SUMMED else values.max(axis=1)
            rows.append({"policy": policy, "measure": measure, **_named(whole)})
    return pl.DataFrame(rows)


def times_frame(of: Rollout) -> pl.DataFrame:
    """Give the bands of the day by which TIMES of the servers vulnerable on day 0 are so no more.

    Columns policy, share, share_of_draws (in which it comes to that by the last day), and the bands, null where not.
    """
    rows = []
    for place, policy in enumerate(of.policies):
        for which, share in enumerate(TIMES):
            values = of.times[place, :, which]
            told = {name: day if np.isfinite(day) else None for name, day in _named(values).items() if name != "mean"}
            reached = float(np.isfinite(values).mean())
            rows.append({"policy": policy, "share": share, "share_of_draws": reached} | told)
    return pl.DataFrame(rows, schema_overrides=dict.fromkeys(QUANTILES, pl.Float64))


def thinness(of: Rollout) -> dict[str, str]:
    """Say of each policy with few vulnerable servers or tenants, or few draws, how few there are."""
    counts = zip(of.policies, of.n_vulnerable, of.n_vulnerable_tenants, strict=True)
    found = {}
    for policy, servers, tenants in counts:
        few = servers < FEWEST_SERVERS or tenants < FEWEST_TENANTS
        parts = [f"{_few(servers, 'vulnerable server')} of {_few(tenants, 'tenant')}"] if few else []
        parts += [_few(of.n_draws, "draw")] if of.n_draws < FEWEST_DRAWS else []
        if parts:
            found[policy] = f"thin: {', '.join(parts)}"
    return found


def _few(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _named(values: Floats) -> dict[str, float]:
    return dict(zip((*QUANTILES, "mean"), bands(values).tolist(), strict=True))
