"""Pictures of bands: each draws what the table holds, tells its numbers, and computes nothing."""

from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl
import pytest
import vl_convert
from test_charts import COMPUTING, HOSTILE, _marks, _nodes

from enforcement.charts_rollout import MEASURES, bands_by_day
from enforcement.charts_theme import BASELINE_COLOUR, PROPOSAL_COLOURS, title_of
from enforcement.rollout import Rollout
from enforcement.rollout_bands import bands_frame, bands_picture, thinness, times_frame, totals_frame

N_DAYS = 20


def made_up(n_vulnerable: int = 30, names: tuple[str, ...] = ("none", "strict", "mild")) -> Rollout:
    rng = np.random.default_rng(1)
    shape = (len(names), 40, N_DAYS + 1)
    return Rollout(
        policies=names,
        as_of=date(2026, 1, 1),
        n_days=N_DAYS,
        n_draws=40,
        seed=1,
        n_servers=50,
        n_tenants=20,
        n_vulnerable=(n_vulnerable,) * len(names),
        n_vulnerable_tenants=(20,) * len(names),
        outcomes={measure: rng.integers(0, 30, shape).astype(float) for measure in MEASURES},
        times=np.where(rng.random((len(names), 40, 2)) < 0.5, np.inf, 7.0),
    )


@pytest.mark.parametrize("measure", MEASURES)
def test_bands_of_each_measure(measure: str) -> None:
    """Two bands and a line a policy, its name at the end, every number for the mouse, and nothing computed."""
    table = bands_picture(made_up(), note="rests on guesses")
    chart = bands_by_day(table, measure)
    spec = chart.to_dict()
    drawn = _marks(vl_convert.vegalite_to_svg(spec))
    n_days = table.filter(measure=measure)["date"].n_unique()
    assert (drawn["area mark"], drawn["line mark"], drawn["text mark"]) == (6, 3, 6)
    assert drawn["point"] == 3 * n_days
    assert not {key for node in _nodes(spec) for key in node} & COMPUTING
    assert title_of(spec).endswith("?")
    told = {tip["field"] for node in _nodes(spec) for tip in node.get("tooltip", ()) if isinstance(tip, dict)}
    assert {"policy", "date", "median", "low_50", "high_50", "low_90", "high_90", "mean"} <= told
    svg = vl_convert.vegalite_to_svg(spec)
    for colour in (BASELINE_COLOUR, *PROPOSAL_COLOURS[:2]):
        assert colour.lower() in svg.lower()
    assert "rests on guesses" in svg


def test_mail_is_the_mean_of_a_week() -> None:
    """The picture of messages has a mark a week, whose mean is that of its days; the others a mark a day."""
    of = made_up()
    table = bands_picture(of)
    lost = table.filter(policy="strict", measure="lost")
    assert lost["day"].to_list() == [0, 7, 14]
    np.testing.assert_allclose(lost["mean"], [of.outcomes["lost"][1][:, a : a + 7].mean() for a in (0, 7, 14)])
    assert table.filter(policy="strict", measure="vulnerable_servers").height == N_DAYS + 1


def test_names_do_not_meet_and_are_text() -> None:
    """Names stand apart where lines end together, and markup in them is letters."""
    of = made_up(names=("none", HOSTILE))
    for values in of.outcomes.values():
        values[1] = values[0]
    table = bands_picture(of)
    named = table.filter(pl.col("label") != "", measure="lost")
    assert abs(named["label_at"][0] - named["label_at"][1]) >= 0.05 * named["high_90"].to_numpy().max()
    svg = vl_convert.vegalite_to_svg(bands_by_day(table, "lost").to_dict())
    assert "<script" not in svg


def test_a_thin_answer_says_so() -> None:
    """Of 19 vulnerable servers, table and picture are labelled thin; of 20 they are not, unless draws are few."""
    assert set(thinness(made_up(19))) == {"none", "strict", "mild"}
    assert not thinness(replace(made_up(20), n_draws=100))
    assert thinness(replace(made_up(20), n_draws=99))["mild"] == "thin: 99 draws"
    svg = vl_convert.vegalite_to_svg(bands_by_day(bands_picture(made_up(19)), "lost").to_dict())
    assert "thin: 19 vulnerable servers of 20 tenants" in svg


def test_nothing_to_show_is_said() -> None:
    """An empty table gives a line instead of axes of nothing."""
    chart = bands_by_day(bands_picture(made_up()).clear(), "lost")
    assert ">nothing to show<" in vl_convert.vegalite_to_svg(chart.to_dict())


def test_bands_are_quantiles_of_the_draws() -> None:
    """A twentieth of the draws lies below the 90 % band or at its end, a quarter below the 50 % band; times too."""
    of = made_up()
    row = bands_frame(of).filter(policy="mild", measure="lost", day=3).row(0, named=True)
    drawn = np.sort(of.outcomes["lost"][2][:, 3])
    found = (row["low_90"], row["low_50"], row["median"], row["high_50"], row["high_90"])
    assert found == (drawn[1], drawn[9], drawn[19], drawn[29], drawn[37])
    total = totals_frame(of).filter(policy="mild", measure="lost").row(0, named=True)
    assert total["mean"] == pytest.approx(of.outcomes["lost"][2][:, 1:].sum(axis=1).mean())
    times = times_frame(of).filter(policy="none")
    assert times["share_of_draws"].to_list() == np.isfinite(of.times[0]).mean(axis=0).tolist()
    assert times["low_90"].to_list() == [7.0, 7.0]
    assert times["high_90"].to_list() == [None, None]
