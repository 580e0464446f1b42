"""Charts of what may happen: bands of draws by day, one table in, one chart out."""

from typing import Any, Final

import altair as alt
import polars as pl

from enforcement.charts_theme import (
    BASELINE_COLOUR,
    COUNT,
    DAYS,
    HOVER,
    INK,
    PROPOSAL_COLOURS,
    UTC,
    WIDTH,
    Chart,
    colour,
    nothing,
    utc,
)

# What each measure counts, as an axis says it, and the question that its picture answers.
MEASURES: Final = {
    "vulnerable_servers": ("vulnerable servers", "How fast may the risk go down?"),
    "vulnerable_tenants": ("tenants with a vulnerable server", "How many tenants may stay vulnerable?"),
    "accepted_vulnerable": (
        "vulnerable messages delivered a day (week's mean)",
        "How much vulnerable mail may still be delivered?",
    ),
    "delayed": ("messages delayed a day (week's mean)", "How much mail may come late?"),
    "lost": ("messages lost a day (week's mean)", "How much mail may be lost?"),
    "tenants_hit": ("tenants throttled or blocked", "How many tenants may be hit?"),
}
_HALO: Final[dict[str, Any]] = {"stroke": "#FFFFFF", "strokeWidth": 4, "strokeJoin": "round"}
_MEANING: Final = "light bands hold nine of ten draws, dark ones half of them; the line is the middle"


def bands_by_day(table: pl.DataFrame, measure: str, *, title: str | None = None) -> Chart:
    """Draw the bands of a measure of MEASURES over time, a colour a policy, the baseline grey and dashed.

    Columns: policy, is_baseline, measure (others than the one asked for are left out), date, low_90, low_50, median,
    high_50, high_90, mean, label (the policy where its line is named, else empty) and label_at (its height), note (said
    below the title, e.g. that an answer is thin; the same in all rows).
    """
    axis, question = MEASURES[measure]
    title = title or question
    chosen = table.filter(measure=measure)
    if chosen.is_empty():
        return nothing(title)
    policies = chosen.select("policy", "is_baseline").unique(maintain_order=True)
    proposals = iter(PROPOSAL_COLOURS * (1 + policies.height // len(PROPOSAL_COLOURS)))
    colours = {name: BASELINE_COLOUR if is_baseline else next(proposals) for name, is_baseline in policies.iter_rows()}
    of_policy = colour("policy", colours, legend=None if policies.height <= 4 else alt.Legend())
    x = alt.X("date:T", axis=DAYS, scale=UTC)
    scale = alt.Scale(zero=True, nice=True)
    base = alt.Chart(utc(chosen)).encode(x=x)
    bands = [
        base.mark_area(opacity=opacity).encode(
            y=alt.Y(f"{low}:Q", axis=alt.Axis(title=axis, format=",d", tickMinStep=1), scale=scale),
            y2=f"{high}:Q",
            color=of_policy,
        )
        for opacity, low, high in ((0.14, "low_90", "high_90"), (0.28, "low_50", "high_50"))
    ]
    y = alt.Y("median:Q", axis=alt.Axis(title=axis, format=",d", tickMinStep=1), scale=scale)
    dash = alt.condition(alt.datum.is_baseline, alt.value([5, 4]), alt.value([1, 0]))
    lines = base.mark_line(strokeWidth=2.25, strokeCap="round").encode(y=y, color=of_policy, strokeDash=dash)
    hovered = alt.selection_point(fields=["date", "policy"], on="pointerover", clear="pointerout", empty=False)
    points = (
        base.properties(name=HOVER)
        .mark_point(filled=True, size=110)
        .encode(
            y=y,
            color=of_policy,
            opacity=alt.condition(hovered, alt.value(1), alt.value(0)),
            tooltip=[
                alt.Tooltip("policy:N"),
                alt.Tooltip("date:N", title="day"),
                alt.Tooltip("median:Q", title="middle of the draws", format=COUNT),
                alt.Tooltip("low_50:Q", title="50 % band from", format=COUNT),
                alt.Tooltip("high_50:Q", title="50 % band to", format=COUNT),
                alt.Tooltip("low_90:Q", title="90 % band from", format=COUNT),
                alt.Tooltip("high_90:Q", title="90 % band to", format=COUNT),
                alt.Tooltip("mean:Q", title="mean", format=COUNT),
            ],
        )
        .add_params(hovered)
    )
    named = base.transform_filter(alt.datum.label != "").encode(y=alt.Y("label_at:Q", scale=scale), text="label:N")
    placed: dict[str, Any] = {"dy": -10, "dx": -4, "align": "right", "fontWeight": 600}
    written = [named.mark_text(**placed, **_HALO), named.mark_text(**placed, color=INK)]
    layers = alt.layer(*bands, lines, *(written if policies.height <= 4 else ()), points)
    notes = [each for each in (_MEANING, str(chosen["note"][0])) if each]
    return layers.properties(width=WIDTH, height=260, title=alt.TitleParams(title, subtitle=notes))
