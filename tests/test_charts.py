"""Charts: each draws the marks of its table, with the colours of their meaning, and computes nothing."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from typing import Any

import polars as pl
import pytest
import vl_convert

from enforcement import charts, charts_fleet
from enforcement.charts_theme import HOVER, MIME, OUTCOME_COLOURS, RISK_COLOUR, Chart, title_of

HOSTILE = "</script><script>alert(1)</script> {{7*7}} [x](javascript:alert(2)) \"'"
# What would make Vega-Lite count, add up or bin; hiding rows that are not drawn is not counting.
COMPUTING = {"aggregate", "bin", "calculate", "density", "fold", "impute", "joinaggregate", "lookup", "loess", "pivot",
             "quantile", "regression", "sample", "timeUnit", "window", "flatten"}  # fmt: skip

STRIP = pl.DataFrame(
    {
        "policy": ["p"] * 4,
        "stage": [1, 2, 2, 2],
        "phase": ["report", "block partly", "block partly", "block partly"],
        "days": ["day 0 to 29"] + ["from day 30 on"] * 3,
        "from_day": [0, 30, 30, 30],
        "until_day": [30, 40, 40, 40],
        "part": ["accepted", "blocked", "throttled", "accepted"],
        "from_minute": [0, 0, 5, 35],
        "until_minute": [60, 5, 35, 60],
        "blocked": [0, 5, 5, 5],
        "throttled": [0, 30, 30, 30],
        "accepted": [60, 25, 25, 25],
        "label": ["report", "block partly", "", ""],
        "label_day": [15.0, 35.0, 0.0, 0.0],
        "label_minute": [64, 64, 0, 0],
        "narrow_label_minute": [64, 77, 0, 0],
        "day_label": ["0", "30", "", ""],
    }
)
DAYS = [date(2026, 1, 1), date(2026, 1, 2), date(2026, 1, 3)]
OUTCOMES = pl.DataFrame(
    {
        "policy": ["p"] * 6,
        "on": DAYS * 2,
        "when": ["2026-01-01", "2026-01-02", "2026-01-03"] * 2,
        "outcome": ["at once"] * 3 + ["delayed"] * 3,
        "messages": [5.0, 4.0, 3.0, 0.0, 1.0, 2.0],
        "label": ["at once", "", "", "", "", "delayed"],
        "read": [9.0] * 6,
        "at_once": [5.0, 4.0, 3.0] * 2,
        "delayed": [0.0, 1.0, 2.0] * 2,
        "rejected": [0.0] * 6,
        "expired": [0.0] * 6,
    }
)
DELAYS = pl.DataFrame(
    {"policy": ["p", "p"], "late": ["≤ 15 min", "≤ 30 min"], "position": [0, 1], "messages": [3.0, 1.0],
     "share": [0.75, 0.25]}
)  # fmt: skip
DECILES = pl.DataFrame(
    {"policy": ["p"] * 4, "decile": [1, 1, 2, 2], "outcome": ["delayed", "lost"] * 2, "messages": [1.0, 2.0, 3.0, 4.0],
     "read": [10, 10, 20, 20], "share": [0.1, 0.2, 0.15, 0.2]}
)  # fmt: skip
RISK = pl.DataFrame(
    {
        "policy": ["no policy"] * 3 + ["p"] * 3,
        "is_baseline": [True] * 3 + [False] * 3,
        "on": DAYS * 2,
        "when": ["2026-01-01", "2026-01-02", "2026-01-03"] * 2,
        "accepted_vulnerable": [5.0, 5.0, 5.0, 5.0, 3.0, 1.0],
        "share": [0.5] * 6,
        "read": [10.0] * 6,
        "label": ["", "", "no policy", "", "", "p"],
    }
)
COST = pl.DataFrame(
    {
        "policy": ["no policy", "p"] * 2,
        "is_baseline": [True, False] * 2,
        "harm": ["against mail delayed"] * 2 + ["against mail lost"] * 2,
        "messages": [0.0, 2.0, 0.0, 4.0],
        "accepted_vulnerable": [9.0, 5.0] * 2,
        "read": [10] * 4,
        "share": [0.0, 0.2, 0.0, 0.4],
        "risk_share": [0.9, 0.5] * 2,
        "is_right": [False, True] * 2,
    }
)
STANDINGS = pl.DataFrame(
    {"on": [DAYS[0]] * 2, "until_on": [DAYS[2]] * 2, "when": ["2026-01-01"] * 2, "standing": ["vulnerable", "current"],
     "low": [0, 3], "high": [3, 4], "servers": [3, 1], "share": [0.75, 0.25], "seen": [4, 4], "silent": [2, 2]}
)  # fmt: skip
AGES = pl.DataFrame(
    {"product": ["Exchange Server 2016", "Exchange Server SE"], "from_days": [90, 0], "until_days": [120, 30],
     "span": ["90 to 119 days", "0 to 29 days"], "standing": ["vulnerable", "behind"], "low": [0, 0], "high": [7, 2],
     "servers": [7, 2]}
)  # fmt: skip
CALENDAR = pl.DataFrame(
    {"stage_name": ["stage 1: report", "stage 2: throttle (5 min throttled)"], "phase": ["report", "throttle"],
     "on": DAYS[:2], "until_on": DAYS[1:], "when": ["2026-01-01", "2026-01-02"], "servers": [4, 3], "tenants": [2, 2]}
)  # fmt: skip
MINUTES = pl.DataFrame({"minute": [0, 30], "messages": [3, 1], "share": [0.75, 0.25]})
RANKING = pl.DataFrame({"name": ["a", "b"], "messages": [3, 1], "share": [0.75, 0.25], "detail": ["x", "y"]})

# Chart, its table, and how many marks of which kind it must draw (panels, hover marks and all).
CHARTS: dict[str, tuple[Chart, pl.DataFrame, dict[str, int]]] = {
    "schedule strip": (charts.schedule_strip(STRIP), STRIP, {"rect mark": 4, "text mark": 4}),
    "outcome by day": (charts.outcome_by_day(OUTCOMES), OUTCOMES, {"line mark": 2, "rule mark": 3, "text mark": 4}),
    "delays": (charts.delays(DELAYS), DELAYS, {"bar": 2}),
    "harm by decile": (charts.harm_by_decile(DECILES), DECILES, {"bar": 4}),
    "risk by day": (charts.risk_by_day(RISK), RISK, {"line mark": 2, "point": 6, "text mark": 4}),
    # A name stands to the left or to the right of its point: of two texts a point, one is empty.
    "risk against harm": (charts.risk_against_harm(COST), COST, {"point": 4, "text mark": 8}),
    "standing over time": (charts_fleet.standing_over_time(STANDINGS), STANDINGS, {"rect mark": 2}),
    "age of the missing update": (charts_fleet.update_age(AGES), AGES, {"rect mark": 2}),
    "calendar": (charts_fleet.stage_calendar(CALENDAR), CALENDAR, {"rect mark": 2}),
    "minutes of the hour": (charts_fleet.minutes_of_the_hour(MINUTES), MINUTES, {"bar": 2}),
    "ranking": (charts_fleet.ranking(RANKING, title="Which?"), RANKING, {"bar": 2}),
}


def _svg(chart: Chart) -> str:
    return vl_convert.vegalite_to_svg(chart.to_dict())


def _marks(svg: str) -> Counter[str]:
    """Count what is drawn, by what it is said to be to a screen reader."""
    return Counter(re.findall(r'aria-roledescription="([^"]+)"', svg))


def _nodes(spec: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(spec, dict):
        yield spec
        for key, part in spec.items():
            if key != "datasets":
                yield from _nodes(part)
    elif isinstance(spec, list):
        for part in spec:
            yield from _nodes(part)


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_draws_each_row_of_its_table(name: str) -> None:
    """The picture has as many marks as the table has rows to draw."""
    chart, _, expected = CHARTS[name]
    drawn = _marks(_svg(chart))
    assert {kind: drawn[kind] for kind in expected} == expected


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_computes_nothing(name: str) -> None:
    """Nothing in it aggregates, bins or calculates, and its data are the table as it came."""
    chart, table, _ = CHARTS[name]
    spec = chart.to_dict()
    used = {key for node in _nodes(spec) for key in node}
    assert not used & COMPUTING
    (rows,) = spec["datasets"].values()
    written = json.loads(table.with_columns(pl.col(pl.Date).cast(pl.String)).write_json())
    assert [{key: value for key, value in row.items() if key in table.columns} for row in rows] == written


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_says_what_it_shows(name: str) -> None:
    """It has a title, and its marks tell every number of theirs to the mouse."""
    chart, table, _ = CHARTS[name]
    spec = chart.to_dict()
    assert title_of(spec).endswith("?")
    told = {tip["field"] for node in _nodes(spec) for tip in node.get("tooltip", ()) if isinstance(tip, dict)}
    numbers = {column for column, dtype in table.schema.items() if dtype.is_numeric()}
    places = {"label_day", "label_minute", "narrow_label_minute", "position", "low", "high",
              "from_day", "until_day", "from_minute", "until_minute", "from_days", "until_days"}  # fmt: skip
    assert numbers - places - {"messages"} <= told
    assert "messages" not in numbers or "messages" in told or {"at_once", "delayed"} <= told


def test_the_same_meaning_has_the_same_colour() -> None:
    """Delayed is amber and rejected vermilion wherever they appear; risk left is blue."""
    for name in ("outcome by day", "harm by decile", "delays"):
        assert OUTCOME_COLOURS["delayed"].lower() in _svg(CHARTS[name][0]).lower()
    assert OUTCOME_COLOURS["rejected"].lower() in _svg(CHARTS["harm by decile"][0]).lower()
    assert OUTCOME_COLOURS["delayed"].lower() in _svg(CHARTS["calendar"][0]).lower()
    assert RISK_COLOUR.lower() in _svg(CHARTS["standing over time"][0]).lower()


def test_a_day_without_data_is_a_gap_and_no_zero() -> None:
    """A line breaks where the table has no number: it begins anew after it."""
    whole = _svg(charts.outcome_by_day(OUTCOMES))
    days = pl.col("on") == DAYS[1]
    gap = OUTCOMES.with_columns(messages=pl.when(~days).then("messages"))
    broken = _svg(charts.outcome_by_day(gap))
    assert [_moves(svg) for svg in (whole, broken)] == [[1, 1], [2, 2]]


def _moves(svg: str) -> list[int]:
    """Count for each line how often the pen is set down anew."""
    return [path.count("M") for path in re.findall(r'aria-roledescription="line mark"[^>]* d="([^"]+)"', svg)]


@pytest.mark.parametrize(
    ("draw", "table"),
    [
        (charts_fleet.standing_over_time, STANDINGS.clear()),
        (charts_fleet.update_age, AGES.clear()),
        (charts_fleet.stage_calendar, CALENDAR.clear()),
        (charts.risk_against_harm, COST.with_columns(share=pl.lit(None, dtype=pl.Float64))),
    ],
)
def test_nothing_to_show_is_said(draw: Callable[[pl.DataFrame], Chart], table: pl.DataFrame) -> None:
    """A chart without data says so under its title instead of drawing axes of nothing."""
    svg = _svg(draw(table))
    assert ">nothing to show<" in svg
    assert "Infinity" not in svg
    assert "axis" not in svg


def test_panels_keep_the_order_of_the_table() -> None:
    """Policies stand in the order in which they are given, not by the alphabet."""
    both = pl.concat([DELAYS.with_columns(policy=pl.lit("zebra")), DELAYS.with_columns(policy=pl.lit("ant"))])
    svg = _svg(charts.delays(both))
    assert svg.index(">zebra<") < svg.index(">ant<")


def test_names_from_outside_are_text_and_nothing_else() -> None:
    """Markup, templates and links in a policy's name or a title come out as letters."""
    svg = _svg(charts.delays(DELAYS.with_columns(policy=pl.lit(HOSTILE)), title=HOSTILE))
    assert "<script" not in svg
    assert "href" not in svg
    assert "{{7*7}}" in svg


def test_a_notebook_shows_a_chart_as_data() -> None:
    """In a notebook a chart is its specification, which JupyterLab and the page draw without a network."""
    bundle: Any = CHARTS["delays"][0]._repr_mimebundle_()
    shown = bundle[0] if isinstance(bundle, tuple) else bundle
    assert set(shown) == {MIME, "text/plain"}
    assert shown["text/plain"] == "<chart: How late does delayed mail come?>"


def test_what_answers_to_the_mouse_can_be_told_apart() -> None:
    """The layers that a still picture does without are named."""
    named = {node.get("name") for node in _nodes(charts.outcome_by_day(OUTCOMES).to_dict())}
    assert HOVER in named
