"""What may happen, in words and tables: each number with its band, and what it rests on."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl

from enforcement.assumptions import Assumptions
from enforcement.forecasts import Forecast
from enforcement.pieces import Figure, Piece, count, figures, listed, plural, said, table, together
from enforcement.policy import NO_POLICY
from enforcement.rollout import TIMES, Rollout
from enforcement.rollout_bands import QUANTILES, bands, thinness, times_frame, totals_frame
from enforcement.rollout_differences import differences_frame

MEASURE_WORDS: Final = {
    "accepted_vulnerable": "vulnerable messages delivered",
    "delayed": "messages delayed",
    "lost": "messages lost",
    "tenants_hit": "tenants throttled or blocked, on the day with most",
    "vulnerable_servers": "vulnerable servers on the last day",
}
_NAMES: Final = {
    "noticed": "a notice",
    "throttled": "throttling",
    "partly_blocked": "partial blocks",
    "fully_blocked": "full blocks",
}
_SPACE: Final = "\N{NO-BREAK SPACE}"


def answer(of: Forecast) -> Piece:
    """Say how many servers may be left vulnerable at the end under each policy, and how sure that is."""
    found = of.rollout
    opening = said(
        "Of {servers} servers in sight on {day}, {n} were vulnerable. {horizon} later:",
        servers=f"{found.n_servers:,}",
        day=found.as_of,
        n=f"{found.n_vulnerable[0]:,}",
        horizon=plural(found.n_days, "day"),
    )
    told = [opening]
    for place, policy in enumerate(found.policies):
        low, _, middle, _, high, _ = bands(found.outcomes["vulnerable_servers"][place, :, -1])
        told.append(
            said(
                "{name}: {b_middle} in the middle of the draws, {low} to {high} in nine of ten.{thin}",
                name=_name(policy),
                b_middle=f"{middle:,.0f}",
                low=f"{low:,.0f}",
                high=f"{high:,.0f}",
                thin=f" This is {thinness(found)[policy]}." if policy in thinness(found) else "",
            )
        )
    return _as_answer(told)


def five_figures(of: Forecast) -> Piece:
    """Give the figures of the first policy, or of the first beside no policy, each with its 90 % band."""
    found = of.rollout
    place = next((at for at, name in enumerate(found.policies) if name != NO_POLICY), 0)
    policy = found.policies[place]
    totals = {row["measure"]: row for row in totals_frame(found).filter(policy=policy).to_dicts()}
    last = bands(found.outcomes["vulnerable_servers"][place, :, -1])
    half = times_frame(found).filter(policy=policy, share=TIMES[0]).row(0, named=True)
    over = f"over {plural(found.n_days, 'day')}"
    return figures(
        [
            Figure(
                what=f"vulnerable on {found.days[-1]}",
                value=f"{last[2]:,.0f}",
                of=f"servers of {found.n_vulnerable[place]:,} today",
                difference=f"90{_SPACE}%: {last[0]:,.0f} to {last[4]:,.0f}",
            ),
            *(
                Figure(
                    what=what,
                    value=count(totals[measure]["median"]),
                    of=f"messages {over}",
                    difference=_in_nine_of_ten(totals[measure]),
                )
                for measure, what in (("accepted_vulnerable", "risk left"), ("delayed", "delayed"), ("lost", "lost"))
            ),
            Figure(
                what="half are patched or retired",
                value=f"day {half['median']:,.0f}" if half["median"] is not None else "not in time",
                of=f"in {100 * half['share_of_draws']:.0f}{_SPACE}% of the draws by day {found.n_days}",
                difference=f"90{_SPACE}%: day {_by_day(half['low_90'], found)} to {_by_day(half['high_90'], found)}",
            ),
        ]
    )


def _in_nine_of_ten(row: dict[str, float]) -> str:
    return f"90{_SPACE}%: {count(row['low_90'])} to {count(row['high_90'])}"


def totals(of: Forecast) -> Piece:
    """List what comes together over all days, a row a policy and measure."""
    frame = totals_frame(of.rollout)
    shown = frame.select(policy=_policy(), measure=_measure(), **_banded())
    note = "over all days; delayed and lost are different in kind and never added"
    return table(shown, name="totals", whole=frame, rows=shown.height, note=note)


def times(of: Forecast) -> Piece:
    """List when half and nine tenths of today's vulnerable servers are patched or retired."""
    found = of.rollout
    frame = times_frame(found)
    shown = frame.select(
        policy=_policy(),
        of_today=pl.format("{} %", (pl.col("share") * 100).cast(pl.Int64)),
        in_draws=pl.format("{} %", (pl.col("share_of_draws") * 100).round().cast(pl.Int64)),
        **{
            name: pl.col(column).map_elements(lambda day: _by_day(day, found), return_dtype=pl.String, skip_nulls=False)
            for name, column in (("median", "median"), ("90 % from", "low_90"), ("90 % to", "high_90"))
        },
    )
    return table(shown, name="times", whole=frame, rows=shown.height, note="days from today")


def differences(of: Forecast, against: str) -> Piece:
    """Set each policy against one, draw by draw."""
    frame = differences_frame(of.rollout, against)
    if frame.is_empty():
        return said("There is nothing to set {name} against.", name=_name(against))
    percent = pl.col("share_of_draws").mul(100).round().cast(pl.Int64)
    shown = frame.select(policy=_policy(), measure=_measure(), **_banded(), less_in=pl.format("{} % of draws", percent))
    note = f"differences from {_name(against)}, below 0: less than under it; each draw meets the same chance under both"
    return table(shown, name="differences", whole=frame, rows=shown.height, note=note)


def compared(of: Forecast, against: str) -> Piece:
    """Say of each policy whether it leaves less risk than another, what that costs, and how sure it is."""
    frame = differences_frame(of.rollout, against)
    sentences = [
        said(
            "In the {days} days from {day} on, in the middle of {draws} draws (and in how many of them it is so):",
            days=f"{of.rollout.n_days:,}",
            day=of.rollout.as_of,
            draws=f"{of.rollout.n_draws:,}",
        )
    ]
    for (policy,), rows in frame.group_by("policy", maintain_order=True):
        by = {row["measure"]: row for row in rows.to_dicts()}
        sentences.append(
            said(
                "Under {b_name}, {risk} messages of vulnerable servers come through ({sure}), and {lost} messages are "
                "lost ({sure_lost}), against {other}.",
                b_name=_name(str(policy)),
                risk=_more(by["accepted_vulnerable"]["median"]),
                other=_name(against),
                sure=_sure(by["accepted_vulnerable"]),
                lost=_more(by["lost"]["median"]),
                sure_lost=_sure(by["lost"]),
            )
        )
    return _as_answer(sentences if frame.height else [said("There is nothing to compare.")])


def _as_answer(told: Sequence[Piece]) -> Piece:
    html = "".join(piece.html.replace("<p>", '<p class="answer">', 1) for piece in told)
    return Piece(html, "\n".join(piece.text for piece in told))


def not_applied(of: Forecast) -> Piece:
    """Say which rules builds to come are not judged by."""
    told = [
        said(
            "{b_name}: servers that have acted are not judged by {rules}, as too little is known of builds to come; "
            "more of them may be vulnerable.",
            b_name=policy,
            rules=", ".join(rules),
        )
        for policy, rules in of.not_applied.items()
    ]
    return listed(told) if told else said("Builds to come are judged by all rules.")


def assumed(assumptions: Assumptions) -> Piece:
    """List what the forecast rests on: guesses first, each marked, then what was counted."""
    guesses = assumptions.guesses()
    keys = {each.key for each in guesses}
    known = [each for each in assumptions.sourced() if each.key not in keys]
    lines = [
        said(
            "Guess: {b_key} = {value}. {source}.",
            b_key=each.key,
            value=f"{each.value:g}",
            source=_sentence(each.source),
        )
        for each in guesses
    ]
    off = [said("Off: {b_key}.", b_key=key) for key in assumptions.off]
    counted = said(
        "{n} more numbers are counted or published; the assumptions file names the source of each.", n=len(known)
    )
    learned = said(
        "No enforcement is visible in the data that rates were learned from. How much faster people act after {what} "
        "is supposed, not seen.",
        what=", ".join(_NAMES.values()),
    )
    return together([learned, listed([*lines, *off, counted])])


def thin(of: Rollout) -> Piece:
    """Say which answers rest on few servers or tenants."""
    found = thinness(of)
    if not found:
        return said("No answer here is thin.")
    return listed([said("{b_name}: {why}.", b_name=_name(name), why=why) for name, why in found.items()])


def _sentence(source: str) -> str:
    text = source.strip().rstrip(".")
    return text.removeprefix("guess; ").removeprefix("guess") or "no source at all"


def _name(policy: str) -> str:
    return "no policy" if policy == NO_POLICY else policy


def _policy() -> pl.Expr:
    return pl.when(pl.col("policy") == NO_POLICY).then(pl.lit("no policy")).otherwise("policy")


def _measure() -> pl.Expr:
    return pl.col("measure").replace_strict(MEASURE_WORDS, default=pl.col("measure"))


def _banded() -> dict[str, pl.Expr]:
    """Write medians and bands as text."""
    text = {name: pl.col(name).map_elements(_signed, return_dtype=pl.String) for name in QUANTILES}
    return {
        "median": text["median"],
        "50 % band": pl.format("{} to {}", text["low_50"], text["high_50"]),
        "90 % band": pl.format("{} to {}", text["low_90"], text["high_90"]),
    }


def _signed(number: float) -> str:
    return f"{number:,.0f}".replace("-", "\N{MINUS SIGN}") if round(number) else "0"


def _more(number: float) -> str:
    if not round(number):
        return "no fewer or more"
    return f"{abs(number):,.0f} {'more' if number > 0 else 'fewer'}"


def _sure(row: dict[str, float]) -> str:
    """Say in which share of the draws the difference has the sign of its middle."""
    less = row["share_of_draws"]
    return f"{100 * (less if row['median'] <= 0 else 1 - less):.0f}{_SPACE}%"


def _by_day(day: float | None, of: Rollout) -> str:
    return f"{day:,.0f}" if day is not None and np.isfinite(day) else f"over {of.n_days}"
