"""Charts of how good forecasts have been: one table in, one chart out."""

from typing import Any, Final

import altair as alt
import polars as pl

from enforcement.charts_theme import (
    BASELINE_COLOUR,
    DAYS,
    INK,
    SHARE,
    UTC,
    WIDTH,
    Chart,
    colour,
    nothing,
    rows,
    utc,
)

_METHOD_COLOURS: Final = {
    "this model": "#009E73",
    "each server stays as it is": BASELINE_COLOUR,
    "one constant rate": "#CC79A7",
}  # fmt: skip
_BAND: Final = "#56B4E9"


def errors_by_cut(table: pl.DataFrame, *, title: str = "How wrong were forecasts, beside naive ones?") -> Chart:
    """Draw the error of each method from each day in the past, a line a method.

    Columns: on (the day), when (the same as text), method, error (points of share), label (the method where its line is
    named, else empty).
    """
    if not table.height:
        return nothing(title)
    base = alt.Chart(utc(table))
    x = alt.X("on:T", axis=DAYS, scale=UTC)
    y = alt.Y("error:Q", axis=alt.Axis(title="error (CRPS), points of share"), scale=alt.Scale(domainMin=0))
    tooltip = [
        alt.Tooltip("when:N", title="forecast from"),
        alt.Tooltip("method:N"),
        alt.Tooltip("error:Q", format=".1f"),
    ]
    of_method = colour("method", _METHOD_COLOURS, legend=alt.Legend(symbolType="stroke"))
    lines = base.mark_line(strokeWidth=2.25).encode(x=x, y=y, color=of_method)
    points = base.mark_point(filled=True, size=60, opacity=1).encode(x=x, y=y, color=of_method, tooltip=tooltip)
    return alt.layer(lines, points).properties(width=WIDTH, height=220, title=title)


def cover_by_cut(
    table: pl.DataFrame, *, title: str = "Did the bands hold what came? As often as the dashed line says is right."
) -> Chart:
    """Draw which share of the weeks each band held, from each day in the past, and what is right.

    Columns: on (the day), when (the same as text), band, held (0 to 1), should (0 to 1).
    """
    if not table.height:
        return nothing(title)
    bars = (
        alt.Chart()
        .mark_bar(color=_BAND, size=14)
        .encode(
            x=alt.X("on:T", axis=DAYS, scale=UTC),
            y=alt.Y("held:Q", axis=alt.Axis(title="weeks held", format=".0%"), scale=alt.Scale(domain=[0, 1])),
            tooltip=[
                alt.Tooltip("when:N", title="forecast from"),
                alt.Tooltip("band:N"),
                alt.Tooltip("held:Q", title="weeks held", format=SHARE),
            ],
        )
    )
    right: dict[str, Any] = {"strokeDash": [5, 4], "color": INK}
    line = alt.Chart().mark_rule(**right).encode(y="should:Q")
    panels = alt.layer(bars, line).properties(width=WIDTH, height=110)
    return panels.facet(row=rows(table, "band"), data=utc(table), spacing=12).properties(title=title)
