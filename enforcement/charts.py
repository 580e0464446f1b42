"""Charts of policies and of what they do to mail: one table in, one chart out, and nothing computed."""

from typing import Any, Final

import altair as alt
import polars as pl

from enforcement.charts_theme import (
    BASELINE_COLOUR,
    COUNT,
    DAYS,
    FAINT,
    HOVER,
    INK,
    OUTCOME_COLOURS,
    PART_COLOURS,
    PROPOSAL_COLOURS,
    SHARE,
    SQUARES,
    UTC,
    WIDTH,
    Chart,
    colour,
    nothing,
    rows,
    utc,
)

_HARM_COLOURS: Final = {"delayed": OUTCOME_COLOURS["delayed"], "lost": OUTCOME_COLOURS["rejected"]}
# The same hues, dark enough for letters on white.
_READABLE: Final = OUTCOME_COLOURS | {"at once": "#6B7683", "delayed": "#A86F00"}
_HALO: Final[dict[str, Any]] = {"stroke": "#FFFFFF", "strokeWidth": 4, "strokeJoin": "round"}
_STRIP_MINUTES: Final = (-22, 104)  # of the axis: room for day numbers below the hour and for phase names above


def schedule_strip(table: pl.DataFrame, *, title: str = "What happens to a vulnerable server, day by day?") -> Chart:
    """Draw the stages of policies as strips: minutes of each hour upwards, days on the clock to the right.

    Columns: policy, stage, phase, from_day, until_day (the last stage is drawn up to it, it has no end), part
    (blocked, throttled, accepted), from_minute, until_minute, for the tooltip days (as text), blocked, throttled,
    accepted; and what is written beside a stage: label (a phase's name, else empty) at label_day and label_minute (on a
    narrow page narrow_label_minute), day_label (its first day, else empty).
    """
    x = alt.X(
        "from_day:Q",
        axis=alt.Axis(title="days on a server's clock", labels=False, ticks=False, domain=False, titlePadding=-4),
        scale=alt.Scale(nice=False, zero=True),
    )
    y = alt.Y(
        "from_minute:Q",
        axis=alt.Axis(title="min of each hour", values=[0, 30, 60], grid=False, titleAnchor="middle"),
        scale=alt.Scale(domain=_STRIP_MINUTES, nice=False),
    )
    tooltip = [
        alt.Tooltip("policy:N"),
        alt.Tooltip("stage:O"),
        alt.Tooltip("phase:N"),
        alt.Tooltip("days:N", title="on the clock"),
        alt.Tooltip("blocked:Q", title="minutes blocked"),
        alt.Tooltip("throttled:Q", title="minutes throttled"),
        alt.Tooltip("accepted:Q", title="minutes accepted"),
    ]
    parts = (
        alt.Chart()
        .mark_rect(stroke="#FFFFFF", strokeWidth=1)
        .encode(
            x=x,
            x2="until_day:Q",
            y=y,
            y2="until_minute:Q",
            color=colour("part", PART_COLOURS, legend=SQUARES),
            tooltip=tooltip,
        )
    )
    phases = (
        alt.Chart()
        .mark_text(baseline="bottom", color=INK, fontSize=12)
        .encode(x="label_day:Q", y="label_minute:Q", text="label:N")
        .transform_filter(alt.datum.label != "")
    )
    days = (
        alt.Chart()
        .mark_text(baseline="top", align="left", color=FAINT)
        .encode(x=x, y=alt.datum(-5), text="day_label:N")
        .transform_filter(alt.datum.day_label != "")
    )
    # On a narrow page the names stand where they do not run into each other there.
    narrow = {"narrow": {"label_minute": "narrow_label_minute"}}
    strips = alt.layer(parts, phases, days).properties(width=WIDTH, height=150)
    return _titled(strips.facet(row=rows(table, "policy"), data=table, spacing=6, usermeta=narrow), title)


def outcome_by_day(
    table: pl.DataFrame, *, per: str = "day", title: str = "What becomes of the mail over time?"
) -> Chart:
    """Draw the outcomes of subject messages over time, a panel a policy, each outcome a line of its own.

    Columns: policy, on (a day, or the first of a span), when (the same as text), outcome (at once, delayed, rejected,
    expired), messages (null: no mail at all, a gap), label (the outcome where its line is named, else empty), and for
    the tooltip read and each outcome's count as at_once, delayed, rejected, expired.
    """
    hovered = alt.selection_point(fields=["on"], on="pointerover", clear="pointerout", empty=False)
    x = alt.X("on:T", axis=DAYS, scale=UTC)
    y = alt.Y("messages:Q", axis=alt.Axis(title=f"messages a {per}", format=",d", tickMinStep=1))
    of_outcome = colour("outcome", OUTCOME_COLOURS, legend=None)
    lines = alt.Chart().mark_line(strokeWidth=1.75, strokeCap="round").encode(x=x, y=y, color=of_outcome)
    names = alt.Chart().transform_filter(alt.datum.label != "").encode(x=x, y=y, text="label:N")
    placed: dict[str, Any] = {"dy": -8, "fontWeight": 600}
    written = [
        names.mark_text(**placed, **_HALO),
        names.mark_text(**placed).encode(color=colour("outcome", _READABLE, legend=None)),
    ]
    columns = (
        alt.Chart()
        .transform_filter(alt.datum.outcome == "at once")
        .properties(name=HOVER)
        .mark_rule(strokeWidth=5, color=FAINT)
        .encode(
            x=x,
            opacity=alt.condition(hovered, alt.value(0.25), alt.value(0)),
            tooltip=[
                alt.Tooltip("policy:N"),
                alt.Tooltip("when:N", title="when"),
                *(alt.Tooltip(f"{name.replace(' ', '_')}:Q", title=name, format=COUNT) for name in OUTCOME_COLOURS),
                alt.Tooltip("read:Q", title="mail read", format=COUNT),
            ],
        )
        .add_params(hovered)
    )
    panels = alt.layer(lines, *(written if _has_names(table) else ()), columns)
    # The letters' colours are darker than the lines': two scales.
    panels = panels.resolve_scale(color="independent").properties(width=WIDTH, height=150)
    return _titled(panels.facet(row=rows(table, "policy"), data=utc(table), spacing=14), title)


def delays(table: pl.DataFrame, *, title: str = "How late does delayed mail come?") -> Chart:
    """Draw how many delayed messages came how late, a panel a policy.

    Columns: policy, late (a span of delay as text), position (its order), messages, share (of the policy's delayed).
    """
    bars = (
        alt.Chart()
        .mark_bar(color=OUTCOME_COLOURS["delayed"])
        .encode(
            x=alt.X("late:N", sort=alt.SortField("position"), axis=alt.Axis(title="delay", labelAngle=0)),
            y=alt.Y("messages:Q", axis=alt.Axis(title="messages", format=",d", tickMinStep=1, tickCount=3)),
            tooltip=[
                alt.Tooltip("policy:N"),
                alt.Tooltip("late:N", title="delay"),
                alt.Tooltip("messages:Q", format=COUNT),
                alt.Tooltip("share:Q", title="share of its delayed", format=SHARE),
            ],
        )
        .properties(width=WIDTH, height=90)
    )
    return _titled(bars.facet(row=rows(table, "policy"), data=table, spacing=12), title)


def harm_by_decile(table: pl.DataFrame, *, title: str = "Are small tenants hit harder than large ones?") -> Chart:
    """Draw the shares of the mail of each tenth of the tenants that come late and that are lost, side by side.

    Columns: policy, decile (1 the smallest tenants), outcome (delayed, lost), messages, read (mail of the decile),
    share (of that mail).
    """
    bars = (
        alt.Chart()
        .mark_bar()
        .encode(
            x=alt.X("decile:O", axis=alt.Axis(title="tenth of the tenants by mail sent, 1 the smallest", labelAngle=0)),
            xOffset=alt.XOffset("outcome:N", sort=["delayed", "lost"]),
            y=alt.Y("share:Q", axis=alt.Axis(title="share of its mail", format=".0%", tickCount=3)),
            color=colour("outcome", _HARM_COLOURS, legend=SQUARES),
            tooltip=[
                alt.Tooltip("policy:N"),
                alt.Tooltip("decile:O"),
                alt.Tooltip("outcome:N"),
                alt.Tooltip("messages:Q", format=COUNT),
                alt.Tooltip("read:Q", title="mail of the tenth", format=COUNT),
                alt.Tooltip("share:Q", title="share of that mail", format=SHARE),
            ],
        )
        .properties(width=WIDTH, height=110)
    )
    return _titled(bars.facet(row=rows(table, "policy"), data=table, spacing=12), title)


def risk_by_day(table: pl.DataFrame, *, title: str = "How fast does the risk go down?") -> Chart:
    """Draw the vulnerable mail that is delivered over time, a line a policy, the baseline dashed.

    Columns: policy, is_baseline, on (a day, or the first of a span), when (the same as text), accepted_vulnerable
    (null: no mail at all, a gap), share (of the mail read), read, label (the policy where its line is named, else
    empty).
    """
    x = alt.X("on:T", axis=DAYS, scale=UTC)
    y = alt.Y("accepted_vulnerable:Q", axis=alt.Axis(title="vulnerable messages delivered", format=",d", tickMinStep=1))
    of_policy = _policy_colour(table)
    dash = alt.condition(alt.datum.is_baseline, alt.value([5, 4]), alt.value([1, 0]))
    base = alt.Chart(utc(table))
    lines = base.mark_line(strokeWidth=2.25, strokeCap="round").encode(x=x, y=y, color=of_policy, strokeDash=dash)
    hovered = alt.selection_point(fields=["on", "policy"], on="pointerover", clear="pointerout", empty=False)
    points = (
        base.properties(name=HOVER)
        .mark_point(filled=True, size=110)
        .encode(
            x=x,
            y=y,
            color=of_policy,
            opacity=alt.condition(hovered, alt.value(1), alt.value(0)),
            tooltip=[
                alt.Tooltip("policy:N"),
                alt.Tooltip("when:N", title="when"),
                alt.Tooltip("accepted_vulnerable:Q", title="vulnerable, delivered", format=COUNT),
                alt.Tooltip("read:Q", title="mail read", format=COUNT),
                alt.Tooltip("share:Q", title="share of the mail read", format=SHARE),
            ],
        )
        .add_params(hovered)
    )
    named = base.transform_filter(alt.datum.label != "").encode(x=x, y=y, text="label:N")
    placed: dict[str, Any] = {"dy": -10, "fontWeight": 600}
    written = [named.mark_text(**placed, **_HALO), named.mark_text(**placed, color=INK)]
    layers = alt.layer(lines, *(written if _has_names(table) else ()), points)
    return _titled(layers.properties(width=WIDTH, height=240), title)


def risk_against_harm(table: pl.DataFrame, *, title: str = "What does less risk cost?") -> Chart:
    """Draw each policy's vulnerable mail still delivered against the mail it delays, and against the mail it loses.

    Columns: policy, is_baseline, harm (what it is set against), messages, share (of all mail read),
    accepted_vulnerable, risk_share (of all mail read), read, is_right (named to its left).
    """
    if table["share"].is_null().all():
        return nothing(title)
    x = alt.X(
        "share:Q",
        axis=alt.Axis(title="share of all mail read", format=".0%", tickCount=8),
        scale=alt.Scale(zero=True),
    )
    risk_axis = alt.Axis(title="risk left, of all mail", format=".0%")
    y = alt.Y("risk_share:Q", axis=risk_axis, scale=alt.Scale(domainMin=0, nice=True))
    tooltip = [
        alt.Tooltip("policy:N"),
        alt.Tooltip("harm:N", title="set"),
        alt.Tooltip("messages:Q", title="that mail", format=COUNT),
        alt.Tooltip("share:Q", title="share of all mail read", format=SHARE),
        alt.Tooltip("accepted_vulnerable:Q", title="risk left: vulnerable, delivered", format=COUNT),
        alt.Tooltip("risk_share:Q", title="share of all mail read", format=SHARE),
        alt.Tooltip("read:Q", title="mail read", format=COUNT),
    ]
    points = (
        alt.Chart()
        .mark_point(filled=True, size=150, opacity=1)
        .encode(x=x, y=y, color=_policy_colour(table), tooltip=tooltip)
    )
    named = alt.Chart().encode(x=x, y=y)
    empty = alt.value("")
    look: dict[str, Any] = {"fontWeight": 600, "color": INK}
    panels = alt.layer(
        points,
        named.mark_text(align="left", dx=11, **look).encode(text=alt.condition(alt.datum.is_right, empty, "policy:N")),
        named.mark_text(align="right", dx=-11, **look).encode(
            text=alt.condition(alt.datum.is_right, "policy:N", empty)
        ),
    ).properties(width=WIDTH, height=210)
    each = panels.facet(row=rows(table, "harm"), data=table, spacing=14)
    return _titled(each.resolve_scale(x="independent"), title)


def _has_names(table: pl.DataFrame) -> bool:
    return bool((table["label"] != "").any())


def _policy_colour(table: pl.DataFrame) -> alt.Color:
    """Give policies their colours: the baseline grey, proposals in their order."""
    policies = table.select("policy", "is_baseline").unique(maintain_order=True)
    proposals = iter(PROPOSAL_COLOURS * (1 + policies.height // len(PROPOSAL_COLOURS)))
    colours = {name: BASELINE_COLOUR if is_baseline else next(proposals) for name, is_baseline in policies.iter_rows()}
    return colour("policy", colours, legend=None)


def _titled(chart: Chart, title: str) -> Chart:
    return chart.properties(title=title)
