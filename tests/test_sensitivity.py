"""Sensitivity: each figure over its own range, by hand; and the command."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from test_expected import FACTORS, fleet_of, stages_of
from test_frontier import store as store  # noqa: PLC0414 - a fixture
from test_rollout_forms import AS_OF, BEHIND, exact, flat, fleet, leaves, supposed
from worlds import answer, refused, run

from enforcement.assumptions import Assumptions
from enforcement.expected import course, prepare
from enforcement.sensitivity import IGNORED, MEASURES, sensitivity
from enforcement.shipped import load_assumptions, load_policy


def assumed() -> Assumptions:
    factors = {name: exact(value) for name, value in FACTORS.items()}
    factors["throttled"] = {"value": 2.0, "low": 1.6, "high": 3.0, "source": "guess"}
    hazards = flat(0.2)
    hazards["supported"] = [hazards["supported"][0] | {"low": 0.1, "high": 0.4, "source": "lists"}]
    return supposed(hazards=hazards, factors=factors, landing=leaves(), never_responds=exact(0.0))


@pytest.mark.parametrize("measure", MEASURES)
def test_each_end_is_the_answer_with_that_figure_alone_changed(measure: str) -> None:
    """Figures without a range are left out; the widest swing comes first; guesses are marked."""
    case = fleet(30, 10, load_policy("ninety-days"), build=BEHIND)
    known, schedule = fleet_of(case, AS_OF), stages_of(case)[0]
    table = sensitivity(known, schedule, assumed(), measure)
    assert table["figure"].to_list() == ["hazards.supported[0]", "factors.throttled"]
    assert table["is_guess"].to_list() == [False, True]
    row, is_sum = MEASURES[measure]
    for figure, low, high, at_low, at_high, swing in table.select(
        "figure", "low", "high", "at_low", "at_high", "swing"
    ).iter_rows():
        for value, told in ((low, at_low), (high, at_high)):
            found = course(prepare(known, assumed().with_value(figure, value)), schedule)[row]
            assert told == pytest.approx(found[1:].sum() if is_sum else found[-1])
        assert swing == pytest.approx(abs(at_high - at_low))
    faster = table.filter(figure="hazards.supported[0]")
    assert faster["at_high"][0] < faster["answer"][0] < faster["at_low"][0]


def test_factors_that_move_along_are_named() -> None:
    """Below its milder neighbour, or above its harder one, a factor is not moved alone; others are."""
    factors: dict[str, Any] = {name: exact(value) for name, value in FACTORS.items()}
    factors["throttled"] = {"value": 2.0, "low": 1.2, "high": 3.5, "source": "guess"}
    factors["fully_blocked"] = {"value": 5.0, "low": 4.0, "high": 9.0, "source": "guess"}
    case = fleet(30, 10, load_policy("ninety-days"), build=BEHIND)
    supposed_ = supposed(hazards=flat(0.2), factors=factors, landing=leaves())
    table = sensitivity(fleet_of(case, AS_OF), stages_of(case)[0], supposed_, "risk")
    assert dict(table.select("figure", "moves_too").iter_rows()) == {
        "factors.throttled": "factors.noticed, factors.partly_blocked",
        "factors.fully_blocked": "",
    }


@pytest.mark.parametrize("figure", sorted(IGNORED))
def test_what_the_expected_course_ignores_is_left_out(figure: str) -> None:
    """It has a range as shipped, moves nothing at either end, and no row says that it was tried."""
    case, assumptions = fleet(30, 10, load_policy("ninety-days"), build=BEHIND), load_assumptions()
    known, schedule = fleet_of(case, AS_OF), stages_of(case)[0]
    low, high = assumptions.figures()[figure].range90
    assert low < high
    ends = [course(prepare(known, assumptions.with_value(figure, end)), schedule) for end in (low, high)]
    np.testing.assert_array_equal(ends[0], ends[1])
    assert figure not in sensitivity(known, schedule, assumptions, "risk")["figure"].to_list()


def test_an_unknown_measure_names_the_known() -> None:
    """One line."""
    case = fleet(3, 2, load_policy("ninety-days"), build=BEHIND)
    with pytest.raises(ValueError, match=r"no measure 'loss' .expected one of vulnerable, risk, delayed, lost"):
        sensitivity(fleet_of(case, AS_OF), stages_of(case)[0], assumed(), "loss")


def test_the_command_says_what_moves_most_and_what_is_guessed(store: Path) -> None:
    """Its table and its JSON hold the same, by the widest swing."""
    rows = answer("sensitivity", "ninety-days", "--store", store, "--measure", "lost", "--days", "100")
    swings = [row["swing"] for row in rows]
    assert swings == sorted(swings, reverse=True)
    told = run("sensitivity", "ninety-days", "--store", store, "--measure", "lost", "--days", "100")
    assert rows[0]["figure"] in told.stdout
    assert "guess" in told.stdout
    assert "Not in this answer, as only bands have it: patience_correlation" in told.stdout
    assert max(map(len, told.stdout.splitlines())) <= 100
    assert pl.DataFrame(rows)["answer"].n_unique() == 1


def test_what_forecasts_need_is_asked_for(store: Path, tmp_path: Path) -> None:
    """Assumptions that say nothing of people are refused in one line."""
    (tmp_path / "a.toml").write_text(
        'senders = [{ name = "x", share = 1.0, retry_minutes = [15], gives_up_after_hours = 48, source = "guess" }]\n'
    )
    line = refused("sensitivity", "ninety-days", "--store", store, "--assumptions", tmp_path / "a.toml")
    assert "a.toml: missing hazards" in line
