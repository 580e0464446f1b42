"""The table behind each chart: long form, cut to what a picture can show, gaps where there is no data."""

from collections.abc import Mapping, Sequence
from typing import Final

import polars as pl

from enforcement.comparison import NOTHING, Comparison, Named
from enforcement.history import Period
from enforcement.policy import Policy
from enforcement.verdict import Outcome

_OUTCOMES: Final = {str(outcome): str(outcome).replace(" ", "_") for outcome in Outcome}  # word → column
# As many points as a line across a page can show; longer histories are added up by week or by month.
_MOST_POINTS: Final = 200
_FEWEST_WEEKS: Final = 8  # from which on a line by week shows a course
# Where a line may be named, as shares of its length, so that the name stays inside.
_NAMED_FROM, _NAMED_TO = 0.07, 0.93
_LABEL_MINUTES: Final = (64, 77, 90)  # heights of the rows of phase names, in minutes of the axis
_LETTER: Final = 6.4  # pixels of a letter of them
_WIDE, _NARROW = 700, 270  # pixels of a strip on a page, and on a telephone
_NUMBER_APART: Final = 0.075  # share of a strip between two day numbers
_TAIL: Final = 0.18  # how much of a strip shows the last stage, which has no end
# Spans of delay that people tell apart, by their last minute.
_LATE: Final = (
    (15, "15 min"), (30, "30 min"), (45, "45 min"), (60, "1 h"), (120, "2 h"), (240, "4 h"), (480, "8 h"),
    (1440, "1 day"), (2880, "2 days"),
)  # fmt: skip
_LATER: Final = "later"
_FEWEST_DELAYS: Final = 3  # spans of delay after the first that are always drawn


def schedule(policies: Mapping[str, Policy]) -> pl.DataFrame:
    """Lay out the stages of policies by the names they are shown under."""
    end = max(policy.stage_starts[-1] for policy in policies.values()) / (1 - _TAIL)
    end = max(round(end), 10)
    return pl.DataFrame([row for name, policy in policies.items() for row in _strip(name, policy, end)])


def _strip(name: str, policy: Policy, end: int) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    done: set[int] = set()
    labels = _phase_labels(policy, end)
    numbered = _numbered_days(policy, end)
    until = [*policy.stage_starts[1:], end]
    for index, (stage, phase) in enumerate(zip(policy.stages, policy.phases, strict=True)):
        starts = policy.stage_starts[index]
        is_last = index == len(policy.stages) - 1
        touched = stage.block + stage.throttle
        common = {
            "policy": name,
            "stage": index + 1,
            "phase": str(phase),
            "days": f"from day {starts} on" if is_last else f"day {starts} to {until[index] - 1}",
            "from_day": starts,
            "until_day": until[index],
            "blocked": stage.block,
            "throttled": stage.throttle,
            "accepted": 60 - touched,
        }
        parts = (("blocked", 0, stage.block), ("throttled", stage.block, touched), ("accepted", touched, 60))
        for part, low, high in parts:
            if low < high:
                written: dict[str, object] = {
                    "label": "", "label_day": 0.0, "label_minute": 0, "narrow_label_minute": 0, "day_label": "",
                }  # fmt: skip
                if index not in done:  # beside the lowest part of a stage
                    done.add(index)
                    written |= labels.get(index, {}) | ({"day_label": str(starts)} if starts in numbered else {})
                rows.append({**common, "part": part, "from_minute": low, "until_minute": high, **written})
    return rows


def _numbered_days(policy: Policy, end: int) -> set[int]:
    """Choose the first days of stages whose numbers fit beside each other; the last stage's always does."""
    last = policy.stage_starts[-1]
    chosen: list[int] = []
    for day in policy.stage_starts[:-1]:
        is_apart = not chosen or (day - chosen[-1]) / end >= _NUMBER_APART
        if is_apart and (last - day) / end >= _NUMBER_APART:
            chosen.append(day)
    return {*chosen, last}


def _phase_labels(policy: Policy, end: int) -> dict[int, dict[str, object]]:
    """Name each run of stages of one phase once, in its middle, in a row in which it does not meet another name."""
    bounds = [*policy.stage_starts, end]
    firsts = [i for i, phase in enumerate(policy.phases) if i == 0 or policy.phases[i - 1] is not phase]
    lasts = [*firsts[1:], len(policy.phases)]
    names = {first: str(policy.phases[first]) for first in firsts}
    middles = {first: (bounds[first] + bounds[last]) / 2 for first, last in zip(firsts, lasts, strict=True)}
    wide, narrow = (_label_rows(names, middles, pixels / end) for pixels in (_WIDE, _NARROW))
    return {
        first: {
            "label": names[first],
            "label_day": middles[first],
            "label_minute": _LABEL_MINUTES[wide[first]],
            "narrow_label_minute": _LABEL_MINUTES[narrow[first]],
        }
        for first in firsts
    }


def _label_rows(names: Mapping[int, str], middles: Mapping[int, float], scale: float) -> dict[int, int]:
    """Give each name the lowest row whose last name ends before it begins, or the one that ends first."""
    ends = [float("-inf")] * len(_LABEL_MINUTES)
    rows = {}
    for first, name in names.items():
        begins = middles[first] * scale - len(name) * _LETTER / 2
        rows[first] = next((row for row, end in enumerate(ends) if end <= begins), ends.index(min(ends)))
        ends[rows[first]] = begins + len(name) * _LETTER
    return rows


def outcome_by_day(compared: Comparison) -> pl.DataFrame:
    """Give the outcomes of subject messages over time, by day or by a longer span."""
    long = pl.concat(_outcomes_of(each) for each in compared.all)
    never = [word for word in _OUTCOMES if not long.filter(outcome=word)["messages"].sum() and word != Outcome.AT_ONCE]
    return long.filter(~pl.col("outcome").is_in(never))


def _outcomes_of(each: Named) -> pl.DataFrame:
    columns = ["read", *_OUTCOMES.values()]
    by_span = _by_span(each.replay.by_day, each.replay.period, columns)
    long = pl.concat(
        by_span.with_columns(
            policy=pl.lit(_shown(each)), outcome=pl.lit(word), messages=pl.col(column), order=pl.lit(at)
        )
        for at, (word, column) in enumerate(_OUTCOMES.items())
    )
    return _name_lines(long, "messages", "outcome", "outcome").sort("order", "on").drop("order")


def risk_by_day(compared: Comparison) -> pl.DataFrame:
    """Give the vulnerable mail that is delivered over time under each policy, and without any."""
    lines = [(_shown(each), each.is_baseline, each.replay.by_day) for each in compared.all]
    first = compared.first.replay
    if compared.baseline is None:
        none = first.by_day.with_columns(accepted_vulnerable=pl.col("vulnerable").cast(pl.Float64))
        lines.insert(0, (NOTHING, True, none))
    long = pl.concat(
        _by_week(by_day, first.period, ["read", "accepted_vulnerable"]).with_columns(
            policy=pl.lit(name), is_baseline=pl.lit(is_baseline), order=pl.lit(at)
        )
        for at, (name, is_baseline, by_day) in enumerate(lines)
    ).with_columns(share=pl.col("accepted_vulnerable") / pl.col("read"))
    return _name_lines(long, "accepted_vulnerable", "policy", "policy").sort("order", "on").drop("order")


def delays(compared: Comparison) -> pl.DataFrame:
    """Give how many delayed messages came how late, in spans that people tell apart."""
    spans = [*(word for _, word in _LATE), _LATER]
    within = (pl.when(pl.col("delay_minutes") <= minutes).then(pl.lit(word)) for minutes, word in _LATE)
    late = pl.coalesce(*within, pl.lit(_LATER))
    counted = pl.concat(
        each.replay.delays.group_by(late=late)
        .agg(pl.col("messages").sum())
        .with_columns(policy=pl.lit(_shown(each)), share=pl.col("messages") / pl.col("messages").sum())
        for each in compared.all
    )
    used = spans[: 1 + max([_FEWEST_DELAYS, *(spans.index(span) for span in counted["late"])])]
    grid = pl.DataFrame({"policy": [_shown(each) for each in compared.all]}).join(
        pl.DataFrame({"late": used, "position": range(len(used))}), how="cross", maintain_order="left_right"
    )
    return grid.join(counted, on=["policy", "late"], how="left", maintain_order="left").with_columns(
        pl.col("messages", "share").fill_null(0.0), late=_up_to(pl.col("late"))
    )


def _up_to(late: pl.Expr) -> pl.Expr:
    return pl.when(late == _LATER).then(late).otherwise(pl.format("≤ {}", late))


def harm_by_decile(compared: Comparison) -> pl.DataFrame:
    """Give the shares of each decile's mail that come late and that are lost."""
    return pl.concat(
        each.replay.by_group.group_by("decile")
        .agg(pl.col("read", "delayed", "lost").sum())
        .unpivot(["delayed", "lost"], index=["decile", "read"], variable_name="outcome", value_name="messages")
        .with_columns(policy=pl.lit(_shown(each)), share=pl.col("messages") / pl.col("read"))
        .sort("decile", "outcome")
        for each in compared.all
    )


def risk_against_harm(compared: Comparison) -> pl.DataFrame:
    """Give the risk left under each policy beside the mail that it delays, and beside the mail that it loses."""
    points = [(_shown(each), each.is_baseline, each.replay.totals) for each in compared.all]
    if compared.baseline is None:
        totals = compared.first.replay.totals
        nothing = totals | {"delayed": 0.0, "lost": 0.0, "accepted_vulnerable": totals["vulnerable"]}
        points.insert(0, (NOTHING, True, nothing))
    rows = [
        {
            "policy": name,
            "is_baseline": is_baseline,
            "harm": f"against mail {harm}",
            "messages": float(totals[harm]),
            "accepted_vulnerable": float(totals["accepted_vulnerable"]),
            "read": totals["read"],
            "share": totals[harm] / totals["read"] if totals["read"] else None,
            "risk_share": totals["accepted_vulnerable"] / totals["read"] if totals["read"] else None,
        }
        for harm in ("delayed", "lost")
        for name, is_baseline, totals in points
    ]
    # A point in the right half is named to its left, so that its name stays inside.
    right = (pl.col("share") > pl.col("share").max().over("harm") * 0.55).fill_null(value=False)
    return pl.DataFrame(rows, infer_schema_length=None).with_columns(is_right=right)


def stage_calendar(entries: pl.DataFrame, policy: Policy) -> pl.DataFrame:
    """Count the servers that enter each stage over time: takes server, tenant, stage, phase, enters_on."""
    if entries.is_empty():
        schema = {"stage_name": pl.String, "phase": pl.String, "on": pl.Date, "until_on": pl.Date, "when": pl.String}
        return pl.DataFrame(schema=schema | {"servers": pl.UInt32, "tenants": pl.UInt32})
    days = entries["enters_on"]
    every = _every(Period(days.min(), days.max()))  # type: ignore[arg-type]  # a column of dates has dates at its ends
    names = pl.DataFrame(
        [(n + 1, stage_name(policy, n)) for n in range(len(policy.stages))],
        schema={"stage": pl.Int16, "stage_name": pl.String},
        orient="row",
    )
    return (
        entries.join(names, on="stage")
        .with_columns(on=pl.col("enters_on").dt.truncate(every))
        .group_by("stage", "stage_name", "phase", "on")
        .agg(servers=pl.col("server").n_unique(), tenants=pl.col("tenant").n_unique())
        .with_columns(until_on=pl.col("on").dt.offset_by(every), when=_when(every))
        .sort("stage", "on")
    )


def stage_name(policy: Policy, index: int) -> str:
    """Name a stage by its number, its phase and its minutes.

    >>> from enforcement.shipped import load_policy
    >>> stage_name(load_policy("ninety-days"), 4)
    'stage 5: block partly (30 min throttled, 5 min blocked)'
    """
    stage = policy.stages[index]
    minutes = [f"{n} min {word}" for n, word in ((stage.throttle, "throttled"), (stage.block, "blocked")) if n]
    return f"stage {index + 1}: {policy.phases[index]}" + (f" ({', '.join(minutes)})" if minutes else "")


def _shown(each: Named) -> str:
    return f"{each.name} (baseline)" if each.is_baseline else each.name


def _every(period: Period) -> str:
    """Choose the span that a point stands for: a day, a week, or a month."""
    n_days = (period.to_on - period.from_on).days + 1
    return "1d" if n_days <= _MOST_POINTS else "1w" if n_days <= 7 * _MOST_POINTS else "1mo"


def span_word(period: Period) -> str:
    """Name the span that a point of a line over a period stands for.

    >>> from datetime import date
    >>> span_word(Period(date(2026, 1, 1), date(2026, 6, 30))), span_word(Period(date(2019, 1, 1), date(2026, 1, 1)))
    ('day', 'month')
    """
    return {"1d": "day", "1w": "week", "1mo": "month"}[_every(period)]


def _when(every: str) -> pl.Expr:
    written = {"1d": pl.col("on").dt.to_string("%Y-%m-%d"), "1mo": pl.col("on").dt.to_string("%Y-%m")}
    return written.get(every, pl.format("week of {}", pl.col("on").dt.to_string("%Y-%m-%d")))


def _by_span(by_day: pl.DataFrame, period: Period, columns: Sequence[str]) -> pl.DataFrame:
    """Add days up to spans; a span without any mail stays empty: a gap, not a zero."""
    every = _every(period)
    days = pl.DataFrame({"day": pl.date_range(*period, "1d", eager=True)})
    return (
        days.join(by_day, on="day", how="left")
        .group_by(on=pl.col("day").dt.truncate(every))
        .agg(_sum_or_gap(columns))
        .with_columns(when=_when(every))
        .sort("on")
    )


def _by_week(by_day: pl.DataFrame, period: Period, columns: Sequence[str]) -> pl.DataFrame:
    """Add days up to whole weeks that end on the period's last day, which evens out weekends; a short period stays."""
    n_days = (period.to_on - period.from_on).days + 1
    if not _FEWEST_WEEKS * 7 <= n_days <= 7 * _MOST_POINTS:
        return _by_span(by_day, period, columns)
    whole = pl.DataFrame({"day": pl.date_range(*period, "1d", eager=True)}).tail(n_days // 7 * 7)
    return (
        whole.join(by_day, on="day", how="left", maintain_order="left")
        .with_columns(on=pl.col("day").first().over(pl.int_range(pl.len()) // 7))
        .group_by("on")
        .agg(_sum_or_gap(columns))
        .with_columns(when=pl.format("7 days from {}", pl.col("on").dt.to_string("%Y-%m-%d")))
        .sort("on")
    )


def _sum_or_gap(columns: Sequence[str]) -> list[pl.Expr]:
    has_mail = pl.col("read").count() > 0
    return [pl.when(has_mail).then(pl.col(name).sum().cast(pl.Float64)).alias(name) for name in columns]


def _name_lines(long: pl.DataFrame, value: str, line: str, shown: str) -> pl.DataFrame:
    """Name each line well inside where it is highest above all others; one that never is, where it is farthest.

    A line that is zero all along is not named.
    """
    points = long.select("on", line, value)
    ahead = pl.col(value) - pl.col(f"{value}_other")
    beside = (
        points.join(points, on="on", suffix="_other")
        .filter(pl.col(line) != pl.col(f"{line}_other"))
        .group_by("on", line)
        .agg(ahead=ahead.min(), apart=ahead.abs().min())
    )
    place = pl.int_range(pl.len()) / pl.len()
    inside = place.over(line).is_between(_NAMED_FROM, _NAMED_TO) & (pl.col(value) > 0)
    ranked = (
        long.join(beside, on=["on", line], how="left")
        .sort("on")
        .with_columns(pl.when(inside).then(pl.col("ahead", "apart").fill_null(0)))
        .with_columns(rank=pl.when(pl.col("ahead").max().over(line) > 0).then("ahead").otherwise("apart"))
        .with_columns(rank=pl.col("rank") + pl.col(value) / 1e6)  # of equals the highest
    )
    best = (pl.col("rank") == pl.col("rank").max()).fill_null(value=False)
    return ranked.with_columns(
        label=pl.when(best.over(line) & (best.cum_sum() == 1).over(line)).then(pl.col(shown)).otherwise(pl.lit(""))
    ).drop("rank", "ahead", "apart")
