"""How charts look: one colour for each meaning, the same in every chart, and how a notebook shows them."""

from collections.abc import Mapping
from typing import Any, Final

import altair as alt
import polars as pl

# Okabe-Ito, which the colour-blind tell apart; red is never set against green.
OUTCOME_COLOURS: Final = {"at once": "#B0B7BF", "delayed": "#E69F00", "rejected": "#D55E00", "expired": "#7A3E00"}
RISK_COLOUR: Final = "#0072B2"
BASELINE_COLOUR: Final = "#555555"
PROPOSAL_COLOURS: Final = ("#009E73", "#CC79A7", "#56B4E9", "#0072B2")
STANDING_COLOURS: Final = {
    "vulnerable": RISK_COLOUR,
    "behind": "#8CC5E8",
    "current": "#B0B7BF",
    "unknown": "#8C7B6B",
    "out of scope": "#D8CFC4",
}
# A phase has the colour of what it does to mail: nothing, delay, loss.
PHASE_COLOURS: Final = {
    "report": "#B0B7BF",
    "throttle": "#E69F00",
    "block partly": "#D55E00",
    "block more": "#D55E00",
    "block all": "#D55E00",
}
PART_COLOURS: Final = {"blocked": "#D55E00", "throttled": "#E69F00", "accepted": "#ECEEF1"}

WIDTH: Final = 640  # pixels of a plot outside of pages; a page fits it to its column
FONT: Final = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
INK: Final = "#1F2933"
FAINT: Final = "#616E7C"
COUNT: Final = ",.0f"
SHARE: Final = ".1%"
DAYS: Final = alt.Axis(title=None, format="%-d %b %Y", tickCount=6)
UTC: Final = alt.Scale(type="utc")  # a day is a UTC day wherever the page is read
SQUARES: Final = alt.Legend(symbolType="square")
HOVER: Final = "hover"  # the layer that only answers to the mouse; a still picture does without
MIME: Final = "application/vnd.vegalite.v5+json"  # JupyterLab draws this name by itself, offline

Chart = alt.Chart | alt.LayerChart | alt.FacetChart | alt.VConcatChart


@alt.theme.register("enforcement", enable=True)
def _theme() -> alt.theme.ThemeConfig:
    return {
        "config": {
            "background": "#FFFFFF",
            "font": FONT,
            "view": {"stroke": None, "continuousWidth": WIDTH, "discreteWidth": WIDTH},
            "title": {
                "anchor": "start", "frame": "group", "fontSize": 16, "fontWeight": 600, "color": INK, "offset": 14,
                "subtitleFontSize": 13, "subtitleColor": FAINT, "subtitlePadding": 5,
            },
            "axis": {
                "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "labelColor": FAINT,
                "titleColor": FAINT, "gridColor": "#E4E7EB", "domainColor": "#9AA5B1", "tickColor": "#9AA5B1",
                "labelOverlap": True,
            },
            "axisY": {"domain": False, "ticks": False, "tickCount": 4, "labelPadding": 6, "titlePadding": 10},
            "axisX": {"grid": False, "titlePadding": 8, "labelFlush": True},
            "header": {
                "title": None, "labelOrient": "top", "labelAnchor": "start", "labelAngle": 0, "labelFontSize": 13,
                "labelFontWeight": 600, "labelColor": INK, "labelBaseline": "line-top", "labelPadding": 4,
            },
            "legend": {"orient": "top", "title": None, "labelFontSize": 12, "labelColor": INK, "columns": 3},
            "text": {"font": FONT, "fontSize": 12},
        }
    }  # fmt: skip


def colour(field: str, colours: Mapping[str, str], legend: alt.Legend | None) -> alt.Color:
    """Give the words of a column their colours."""
    return alt.Color(f"{field}:N", scale=alt.Scale(domain=list(colours), range=list(colours.values())), legend=legend)


def nothing(title: str) -> Chart:
    """Draw that there is nothing to draw."""
    said = pl.DataFrame({"text": ["nothing to show"]})
    text = alt.Chart(said).mark_text(align="left", fontSize=13, color=FAINT).encode(x=alt.value(0), text="text:N")
    return text.properties(width=WIDTH, height=24, title=title)


def utc(table: pl.DataFrame) -> pl.DataFrame:
    """Write days as text, which browsers read as UTC days wherever they are."""
    return table.with_columns(pl.col(pl.Date).cast(pl.String))


def rows(table: pl.DataFrame, column: str) -> alt.Row:
    """Give each value of a column a panel of its own, in the order of the table."""
    return alt.Row(f"{column}:N", sort=table[column].unique(maintain_order=True).to_list(), header=alt.Header())


def _show(spec: dict[str, Any]) -> dict[str, Any]:
    return {MIME: spec, "text/plain": f"<chart: {title_of(spec)}>"}


def title_of(spec: dict[str, Any]) -> str:
    """Give the title of a chart's specification.

    >>> title_of({"title": {"text": ["How much", "mail?"]}})
    'How much mail?'
    """
    title = spec.get("title") or ""
    text = title.get("text", "") if isinstance(title, dict) else title
    return " ".join(text) if isinstance(text, list) else str(text)


alt.renderers.register("enforcement", _show)
alt.renderers.enable("enforcement")
