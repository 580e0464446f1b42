"""Pictures of frontiers and tornados: each draws what the table holds, tells its numbers, and computes nothing."""

import polars as pl
import vl_convert
from test_charts import COMPUTING, HOSTILE, _marks, _nodes
from test_frontier import a_frontier

from enforcement.charts_frontier import frontier_chart, tornado
from enforcement.charts_theme import Chart, title_of
from enforcement.frontier import frontier_picture
from enforcement.sensitivity import tornado_picture

SWINGS = pl.DataFrame(
    {
        "figure": ["factors.throttled", "hazards.supported[4]", "never_responds"],
        "value": [2.0, 0.05, 0.02],
        "low": [1.3, 0.03, 0.0],
        "high": [3.0, 0.06, 0.05],
        "answer": [100.0, 100.0, 100.0],
        "at_low": [120.0, 110.0, 100.0],
        "at_high": [90.0, 95.0, 100.0],
        "is_guess": [True, False, True],
        "source": ["guess", "lists", "guess"],
        "swing": [30.0, 15.0, 0.0],
        "moves_too": ["factors.noticed", "", ""],
    }
)


def svg(chart: Chart) -> str:
    return vl_convert.vegalite_to_svg(chart.to_dict())


def told(chart: Chart) -> set[str]:
    tips = (tip for node in _nodes(chart.to_dict()) for tip in node.get("tooltip", ()) if isinstance(tip, dict))
    return {tip["field"] for tip in tips}


def test_a_frontier_draws_each_candidate_and_names_the_policies_placed() -> None:
    """A dot a row, names beside the placed ones, every number for the mouse, nothing computed, cuts said."""
    table = frontier_picture(a_frontier(), at_most=2)
    chart = frontier_chart(table)
    drawn = _marks(svg(chart))
    assert drawn["point"] == table.height
    assert drawn["text mark"] == 2 * 2
    assert not {key for node in _nodes(chart.to_dict()) for key in node} & COMPUTING
    assert {"number", "stages", "accepted_vulnerable", "delayed", "lost", "lost_share", "delayed_share"} <= told(chart)
    assert title_of(chart.to_dict()).endswith("?")
    assert "2 of 4 are shown" in svg(chart)


def test_a_tornado_has_two_bars_a_figure_the_widest_first_and_marks_guesses() -> None:
    """Figures that move nothing are left out, and that is said."""
    table = tornado_picture(SWINGS)
    chart = tornado(table, "messages lost")
    picture = svg(chart)
    assert _marks(picture)["bar"] == 4
    assert not {key for node in _nodes(chart.to_dict()) for key in node} & COMPUTING
    assert {"set_to", "at", "answer", "swing", "value", "moves_too"} <= told(chart)
    assert "others move along" in picture
    assert picture.index("factors.throttled (guess)") < picture.index(">hazards.supported[4]<")
    assert "2 of 3 figures" in picture


def test_nothing_and_hostile_names() -> None:
    """Without rows there is a word; markup in a name is letters."""
    table = frontier_picture(a_frontier())
    assert ">nothing to show<" in svg(frontier_chart(table.clear()))
    assert ">nothing to show<" in svg(tornado(tornado_picture(SWINGS).clear(), "messages"))
    hostile = svg(frontier_chart(table.with_columns(label=pl.lit(HOSTILE))))
    assert "<script" not in hostile
