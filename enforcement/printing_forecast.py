"""Forecasts as people read them in a terminal: the answer first, then bands, then what is supposed."""

from typing import Final

import polars as pl

from enforcement.forecasts import Forecast, forecast_answer
from enforcement.pieces import plural
from enforcement.policy import NO_POLICY
from enforcement.rollout import TIMES
from enforcement.rollout_bands import QUANTILES, bands_frame, thinness, times_frame, totals_frame
from enforcement.rollout_differences import differences_frame
from enforcement.terminal import Format, answer, cell, sentences, show, write_answer

_SHOWN_DAYS: Final = (0, 30, 90, 180, 365)
_WORDS: Final = {
    "accepted_vulnerable": "risk left: messages of vulnerable servers delivered",
    "delayed": "messages delayed",
    "lost": "messages lost",
    "tenants_hit": "tenants throttled or blocked, on the day with most",
}


def print_forecast(of: Forecast, how: Format) -> None:
    """Print what may happen under each policy."""
    found = of.rollout
    by_day = bands_frame(found)
    if how is not Format.TABLE:
        write_answer(by_day, forecast_answer(of), how)
        return
    last = by_day.filter(pl.col("day") == found.n_days, measure="vulnerable_servers")
    opening = (
        f"In sight on {found.as_of}: servers {found.n_servers:,}, their tenants {found.n_tenants:,}."
        f" What may happen in the {plural(found.n_days, 'day')} from then on, in {plural(found.n_draws, 'draw')};"
        " a 90 % band holds nine of ten draws."
    )
    told = [opening]
    for place, row in enumerate(last.iter_rows(named=True)):
        told.append(
            f"{row['policy']}: of {found.n_vulnerable[place]:,} servers seen vulnerable,"
            f" {_range(row, 90)} servers are so on {row['date']}, {cell(row['median'])} in the middle of the draws."
        )
    sentences(told)
    sentences([f"{policy}: {said}, so bands and shares say little" for policy, said in thinness(found).items()])
    days = [day for day in _SHOWN_DAYS if day < found.n_days] + [found.n_days]
    shown = by_day.filter(pl.col("day").is_in(days), measure="vulnerable_servers")
    show(_told(shown).select("policy", "date", "day", *_BANDS), title="Vulnerable servers")
    totals = totals_frame(found)
    for measure, words in _WORDS.items():
        table = _told(totals.filter(measure=measure)).select("policy", *_BANDS)
        over = "" if measure == "tenants_hit" else f", over {found.n_days} days"
        show(table, title=words[0].upper() + words[1:] + over)
    times = times_frame(found)
    for share in TIMES:
        percent = pl.col("share_of_draws").mul(100).round(0).cast(pl.Int64)
        table = times.filter(share=share).with_columns(
            *(_day(name, found.n_days) for name in QUANTILES), in_draws=pl.format("{} %", percent)
        )
        show(
            table.select("policy", "in_draws", *_spans()),
            title=f"Day by which {100 * share:.0f} % of the servers vulnerable today are patched or retired",
        )
    _assumed(of)


def print_differences(of: Forecast, against: str) -> None:
    """Print how policies differ from one in what may happen."""
    found = of.rollout
    frame = differences_frame(found, against)
    name = "no policy" if against == NO_POLICY else against
    percent = pl.col("share_of_draws").mul(100).round(0).cast(pl.Int64)
    for (policy,), rows in frame.group_by("policy", maintain_order=True):
        table = rows.with_columns(pl.col(*QUANTILES).map_elements(_counted, return_dtype=pl.String)).select(
            pl.col("measure").replace_strict(_WORDS | {"vulnerable_servers": "vulnerable servers on the last day"}),
            *_spans(),
            less_in=pl.format("{} % of draws", percent),
        )
        show(
            table,
            title=f"What may happen in the {found.n_days} days from {found.as_of} on: {policy} less {name},"
            f" {found.n_draws:,} draws",
        )
    _assumed(of)


def _counted(value: float) -> str:
    return f"{value:,.0f}" if round(value) else "0"


_BANDS: Final = ("median", "50 % band", "90 % band")


def _spans() -> list[pl.Expr]:
    return [
        pl.col("median"),
        pl.format("{} to {}", "low_50", "high_50").alias("50 % band"),
        pl.format("{} to {}", "low_90", "high_90").alias("90 % band"),
    ]


def _told(table: pl.DataFrame) -> pl.DataFrame:
    """Write each band in one column."""
    counts = table.with_columns(pl.col(*QUANTILES).map_elements(_counted, return_dtype=pl.String))
    return counts.with_columns(_spans())


def _day(name: str, n_days: int) -> pl.Expr:
    """Write a day, or that it is not reached."""
    return pl.col(name).cast(pl.Int64).cast(pl.String).fill_null(f"over {n_days}").alias(name)


def _range(row: dict[str, float], width: int) -> str:
    return f"{row[f'low_{width}']:,.0f} to {row[f'high_{width}']:,.0f}"


def _assumed(of: Forecast) -> None:
    """Say which numbers are guesses."""
    guesses = of.assumptions.guesses()
    answer("")
    lines = [f"{len(guesses)} of {len(of.assumptions.sourced())} numbers of the assumptions are guesses:"]
    lines.append(", ".join(f"{each.key} {each.value:g}" for each in guesses) if guesses else "none")
    lines.append(
        "No enforcement is visible in the data that rates were learnt from: what a policy's measures change is"
        " supposed, not seen."
    )
    lines += [
        f"{policy}: servers that have acted are not judged by {', '.join(rules)}, as too little is known of builds to"
        " come; more of them may be vulnerable."
        for policy, rules in of.not_applied.items()
    ]
    if of.n_several:
        lines.append(f"{of.n_several:,} servers showed several builds on their last day; each counts as the highest.")
    sentences(lines)
