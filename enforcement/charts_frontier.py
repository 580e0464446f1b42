"""Charts of many schedules, and of many assumptions: one table in, one chart out, and nothing computed."""

from typing import Any, Final

import altair as alt
import polars as pl

from enforcement.charts_theme import (
    BASELINE_COLOUR,
    COUNT,
    INK,
    PROPOSAL_COLOURS,
    SHARE,
    SQUARES,
    WIDTH,
    Chart,
    colour,
    nothing,
)

_KINDS: Final = {
    "beaten by another, or breaks a bound": "#D8DCE0",
    "beaten by none": "#0072B2",
    "the base and shipped policies": PROPOSAL_COLOURS[1],
}
_ENDS: Final = {"at its low end": "#56B4E9", "at its high end": "#0072B2"}
_HALO: Final[dict[str, Any]] = {"stroke": "#FFFFFF", "strokeWidth": 4, "strokeJoin": "round"}


def frontier_chart(table: pl.DataFrame, *, title: str = "Which schedules does no other beat?") -> Chart:
    """Draw the risk left against the mail lost, a dot a candidate, larger where more mail is delayed.

    Columns: kind (beaten by another, or breaks a bound; beaten by none; the base and shipped policies), number (of a
    candidate), name, accepted_vulnerable (the risk left), delayed, lost (messages), the same with _share (of all mail),
    stages (in words), label (a name beside its dot, else empty), note (said below the title, the same in all rows).
    """
    if table.is_empty():
        return nothing(title)
    tooltip = [
        alt.Tooltip("kind:N"),
        alt.Tooltip("name:N"),
        alt.Tooltip("number:Q", title="candidate", format=COUNT),
        alt.Tooltip("stages:N"),
        alt.Tooltip("accepted_vulnerable:Q", title="risk left: vulnerable, delivered", format=COUNT),
        alt.Tooltip("accepted_vulnerable_share:Q", title="share of all mail", format=SHARE),
        alt.Tooltip("delayed:Q", format=COUNT),
        alt.Tooltip("delayed_share:Q", title="share of all mail", format=SHARE),
        alt.Tooltip("lost:Q", format=COUNT),
        alt.Tooltip("lost_share:Q", title="share of all mail", format=SHARE),
    ]
    scale = alt.Scale(zero=False, nice=True)
    x = alt.X("lost_share:Q", axis=alt.Axis(title="mail lost, of all mail", format=".1%", tickCount=8), scale=scale)
    y = alt.Y("accepted_vulnerable_share:Q", axis=alt.Axis(title="risk left, of all mail", format=".1%"), scale=scale)
    size = alt.Size(
        "delayed_share:Q",
        scale=alt.Scale(range=[12, 220], zero=True),
        legend=alt.Legend(title="mail delayed", format=".1%", symbolFillColor="#FFFFFF", symbolStrokeColor=INK),
    )
    base = alt.Chart(table).encode(x=x, y=y)
    dots = base.mark_point(filled=True, opacity=0.85).encode(
        size=size, color=colour("kind", _KINDS, legend=alt.Legend(symbolType="square", labelLimit=300)), tooltip=tooltip
    )
    named = base.transform_filter(alt.datum.label != "").encode(text="label:N")
    look: dict[str, Any] = {"dx": 9, "align": "left", "fontWeight": 600}
    layers = alt.layer(dots, named.mark_text(**look, **_HALO), named.mark_text(**look, color=INK))
    return layers.properties(width=WIDTH, height=320, title=_titled(title, table))


def tornado(table: pl.DataFrame, unit: str, *, title: str = "Which assumption moves the answer most?") -> Chart:
    """Draw how far each figure moves the answer over its own range, the one that moves it most on top.

    Columns: label (the figure, and whether it is a guess), place (its order), end (at its low end, at its high end),
    set_to (the figure there), at (the answer there), answer (with the figure at its value), value, swing (how far
    apart the answers at both ends are), figure, is_guess, moves_too (figures that
    move with it), note (said below the title, the same in all rows).
    """
    if table.is_empty():
        return nothing(title)
    y = alt.Y("label:N", sort=alt.SortField("place"), axis=alt.Axis(title=None, labelLimit=260, domain=False))
    scale = alt.Scale(zero=False, nice=True)
    x = alt.X("answer:Q", axis=alt.Axis(title=unit, format=",d"), scale=scale)
    base = alt.Chart(table)
    bars = base.mark_bar(height=12).encode(
        x=x,
        x2="at:Q",
        y=y,
        color=colour("end", _ENDS, legend=SQUARES),
        tooltip=[
            alt.Tooltip("figure:N"),
            alt.Tooltip("end:N"),
            alt.Tooltip("set_to:Q", title="set to", format=",.4~g"),
            alt.Tooltip("at:Q", title="answer there", format=COUNT),
            alt.Tooltip("value:Q", title="its value", format=",.4~g"),
            alt.Tooltip("answer:Q", title="answer at its value", format=COUNT),
            alt.Tooltip("swing:Q", title="from end to end", format=COUNT),
            alt.Tooltip("is_guess:N", title="a guess"),
            alt.Tooltip("moves_too:N", title="moves too"),
        ],
    )
    middle = base.mark_tick(color=BASELINE_COLOUR, thickness=2, height=18).encode(x=x, y=y)
    layers = alt.layer(bars, middle)
    return layers.properties(width=WIDTH - 200, height=alt.Step(20), title=_titled(title, table))


def _titled(title: str, table: pl.DataFrame) -> alt.TitleParams:
    note = str(table["note"][0])
    return alt.TitleParams(text=title, subtitle=note) if note else alt.TitleParams(text=title)
