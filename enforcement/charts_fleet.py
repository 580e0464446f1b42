"""Charts of the servers: how they stand, how far they are behind, when they enter stages; nothing computed."""

import altair as alt
import polars as pl

from enforcement.charts_theme import (
    COUNT,
    DAYS,
    FAINT,
    INK,
    PHASE_COLOURS,
    SHARE,
    SQUARES,
    STANDING_COLOURS,
    UTC,
    WIDTH,
    Chart,
    colour,
    nothing,
    rows,
    utc,
)


def standing_over_time(table: pl.DataFrame, *, title: str = "How do the servers stand over time?") -> Chart:
    """Draw the numbers of servers by standing, the vulnerable ones at the bottom.

    Columns: on (a day), until_on (up to which its bar is drawn), when (the day as text), standing, low and high (where
    its part of the bar begins and ends), servers, share (of the servers seen lately), seen, silent (servers not seen
    for long).
    """
    if table.is_empty():
        return nothing(title)
    colours = {name: colour for name, colour in STANDING_COLOURS.items() if name in set(table["standing"])}
    return (
        alt.Chart(utc(table))
        .mark_rect(stroke="#FFFFFF", strokeWidth=0.5)
        .encode(
            x=alt.X("on:T", axis=DAYS, scale=UTC),
            x2="until_on:T",
            y=alt.Y("low:Q", axis=alt.Axis(title="servers seen lately", format=",d", tickMinStep=1)),
            y2="high:Q",
            color=colour("standing", colours, legend=SQUARES),
            tooltip=[
                alt.Tooltip("when:N", title="day"),
                alt.Tooltip("standing:N"),
                alt.Tooltip("servers:Q", format=COUNT),
                alt.Tooltip("seen:Q", title="seen lately", format=COUNT),
                alt.Tooltip("share:Q", title="share", format=SHARE),
                alt.Tooltip("silent:Q", title="silent, perhaps retired", format=COUNT),
            ],
        )
        .properties(width=WIDTH, height=260, title=title)
    )


def update_age(table: pl.DataFrame, *, title: str = "For how long has the oldest update been missing?") -> Chart:
    """Draw how many servers have missed a security update for how long, a panel a product.

    Columns: product, from_days, until_days, span (as text), standing, low and high (where its part of the bar begins
    and ends), servers.
    """
    if table.is_empty():
        return nothing(title)
    colours = {name: colour for name, colour in STANDING_COLOURS.items() if name in set(table["standing"])}
    bars = (
        alt.Chart()
        .mark_rect(stroke="#FFFFFF", strokeWidth=0.5)
        .encode(
            x=alt.X("from_days:Q", axis=alt.Axis(title="days since the update came out", format=",d", tickMinStep=1)),
            x2="until_days:Q",
            y=alt.Y("low:Q", axis=alt.Axis(title="servers", format=",d", tickMinStep=1, tickCount=3)),
            y2="high:Q",
            color=colour("standing", colours, legend=SQUARES),
            tooltip=[
                alt.Tooltip("product:N"),
                alt.Tooltip("span:N", title="missing for"),
                alt.Tooltip("standing:N"),
                alt.Tooltip("servers:Q", format=COUNT),
            ],
        )
        .properties(width=WIDTH, height=72)
    )
    panels = bars.facet(row=rows(table, "product"), data=table, spacing=10)
    return panels.resolve_scale(y="independent").properties(title=title)


def stage_calendar(table: pl.DataFrame, *, title: str = "When do servers enter which stage?") -> Chart:
    """Draw how many servers enter each stage over time, a panel a stage.

    Columns: stage_name, phase, on (a day, or the first of a span), until_on, when (the same as text), servers, tenants.
    """
    if table.is_empty():
        return nothing(title)
    bars = (
        alt.Chart()
        .mark_rect(stroke="#FFFFFF", strokeWidth=0.5)
        .encode(
            x=alt.X("on:T", axis=DAYS, scale=UTC),
            x2="until_on:T",
            y=alt.Y(
                "servers:Q",
                axis=alt.Axis(title="servers", format=",d", tickMinStep=1, tickCount=2),
                scale=alt.Scale(zero=True),
            ),
            y2=alt.datum(0),
            color=colour("phase", PHASE_COLOURS, legend=None),
            tooltip=[
                alt.Tooltip("when:N", title="when"),
                alt.Tooltip("stage_name:N", title="enter"),
                alt.Tooltip("servers:Q", format=COUNT),
                alt.Tooltip("tenants:Q", title="of so many tenants", format=COUNT),
            ],
        )
        .properties(width=WIDTH, height=54)
    )
    panels = bars.facet(row=rows(table, "stage_name"), data=utc(table), spacing=8)
    return panels.properties(title=title)


def minutes_of_the_hour(table: pl.DataFrame, *, title: str = "At which minute of the hour does mail arrive?") -> Chart:
    """Draw how the mail is spread over the minutes of the hour.

    Columns: minute (0 to 59), messages, share (of all messages).
    """
    bars = (
        alt.Chart(table)
        .mark_bar(color=FAINT)
        .encode(
            x=alt.X("minute:O", axis=alt.Axis(title="minute of the hour", labelAngle=0, values=[*range(0, 60, 5)])),
            y=alt.Y("messages:Q", axis=alt.Axis(title="messages", format=",d", tickMinStep=1)),
            tooltip=[
                alt.Tooltip("minute:O"),
                alt.Tooltip("messages:Q", format=COUNT),
                alt.Tooltip("share:Q", title="share of all", format=SHARE),
            ],
        )
    )
    return bars.properties(width=WIDTH, height=200, title=title)


def ranking(table: pl.DataFrame, *, title: str) -> Chart:
    """Draw a few named counts as bars, in the order of the table.

    Columns: name, messages, share (of all messages), detail (for the tooltip).
    """
    y = alt.Y("name:N", sort=None, axis=alt.Axis(title=None, labelLimit=190, labelFontSize=12, labelColor=INK))
    bars = (
        alt.Chart(table)
        .mark_bar(color=FAINT)
        .encode(
            x=alt.X("messages:Q", axis=alt.Axis(title="messages", format=",d", tickMinStep=1, tickCount=5)),
            y=y,
            tooltip=[
                alt.Tooltip("name:N"),
                alt.Tooltip("detail:N"),
                alt.Tooltip("messages:Q", format=COUNT),
                alt.Tooltip("share:Q", title="share of all", format=SHARE),
            ],
        )
    )
    return bars.properties(width=WIDTH, height={"step": 24}, title=title)
