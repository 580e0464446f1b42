"""Assumptions files: what is read, what is refused and in which words, and what is a guess."""

from pathlib import Path

import pytest

from enforcement.assumptions import Assumptions, parse_assumptions
from enforcement.assumptions_text import assumptions_text
from enforcement.shipped import DATA, load_assumptions, read_text

SENDERS = 'senders = [{ name = "x", share = 1.0, retry_minutes = [15], gives_up_after_hours = 48, source = "guess" }]\n'
CELL = '{ from_weeks = 0, rate_per_week = 0.05, source = "guess" }'
FACTORS = "\n".join(
    f'{name} = {{ value = {value}, source = "guess" }}'
    for name, value in {"noticed": 1.2, "throttled": 2, "partly_blocked": 3, "fully_blocked": 5}.items()
)
WITH_RANGE = '{ value = 0.5, low = 0.4, high = 0.6, source = "x" }'
MULTIPLIERS = "\n".join(f'{n}_shape = "off"' for n in ("tenant", "tenant_half_year", "common_half_year"))
SHIPPED = ("default", "optimistic", "pessimistic")


def read(text: str) -> Assumptions:
    return parse_assumptions(SENDERS + text, source="mine.toml")


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_assumptions_are_whole(name: str) -> None:
    """Shipped files say all that a forecast needs; the factors in them are guesses; they read back the same."""
    assumed = load_assumptions(name)
    assumed.expect_people(source=name)
    guessed = {each.key for each in assumed.guesses()}
    assert {f"factors.{key}" for key in ("noticed", "throttled", "partly_blocked", "fully_blocked")} <= guessed
    assert "hazards.supported[0]" not in guessed
    assert parse_assumptions(assumptions_text(assumed), source="again.toml") == assumed
    assert read_text(DATA / "assumptions" / f"{name}.toml").isascii()


def test_the_edges_lie_outside_the_default() -> None:
    """Every rate and factor of optimistic is at least that of default, and that of pessimistic at most."""
    gloomy, default, hopeful = (load_assumptions(n).figures() for n in ("pessimistic", "default", "optimistic"))
    faster = [key for key in default if key.startswith(("hazards", "retirement", "factors"))]
    faster.remove("hazards.rate_correlation")  # the edges have no spread
    assert len(faster) == 17
    assert all(gloomy[key].value <= default[key].value <= hopeful[key].value for key in faster)


def test_senders_alone_are_enough_for_replays(tmp_path: Path) -> None:
    """A file of senders alone is read; a forecast says what it lacks."""
    (tmp_path / "old.toml").write_text(SENDERS)
    assumed = load_assumptions(str(tmp_path / "old.toml"))
    assert [sender.name for sender in assumed.sender_mix] == ["x"]
    with pytest.raises(LookupError, match=r"^old\.toml: missing hazards, retirement, .*updates_per_year \(a forecast"):
        assumed.expect_people(source="old.toml")


def test_off_is_explicit() -> None:
    """What is off is named; a multiplier left out is not off but missing."""
    assumed = read('hazards = "off"\nupdates = "off"\n[multipliers]\n' + MULTIPLIERS)
    assert assumed.off[:2] == ("hazards", "updates")
    assert "multipliers.tenant_shape" in assumed.off
    with pytest.raises(ValueError, match=r"multipliers\.tenant_shape: missing"):
        read("[multipliers]\n" + MULTIPLIERS.replace('tenant_shape = "off"', "", 1))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"[hazards]\nsupported = [{CELL.replace('0.05', '-0.05')}]\nunsupported = [{CELL}]",
         "hazards.supported[0].rate_per_week = -0.05: expected 0 to 100"),
        (f"[hazards]\nsupported = [{CELL}]", "hazards.unsupported: missing"),
        (f'[hazards]\nsupported = [{CELL}]\nunsupported = [{CELL}]\nrate_correlation = {{ value = 2, source = "x" }}',
         "hazards.rate_correlation.value = 2: expected a correlation from 0 to 1"),
        (f"[hazards]\nsupported = [{CELL}]\nunsupported = [{CELL}]\nrate_correlation = {WITH_RANGE}",
         "expected a value and a source alone"),
        (f"[hazards]\nsupported = [{CELL}, {CELL}]\nunsupported = [{CELL}]", "expected more than 0"),
        (f"[hazards]\nsupported = [{CELL.replace('0,', '2,', 1)}]\nunsupported = [{CELL}]",
         "expected 0 in the first cell"),
        (f"[hazard]\nsupported = [{CELL}]", "hazard: unknown key (did you mean 'hazards'?)"),
        ("[factors]\n" + FACTORS.replace("= 2,", "= 1.1,"), "factors.throttled.value = 1.1: expected at least 1.2"),
        ("[factors]\n" + FACTORS.replace("= 1.2,", "= 0.9,"), "factors.noticed.value = 0.9: expected a factor from 1"),
        ('never_responds = { value = 1.5, source = "x" }', "never_responds.value = 1.5: expected a share"),
        ('never_responds = { value = nan, source = "x" }', "never_responds.value"),
        ("never_responds = { value = 0.1 }", "never_responds.source: missing"),
        ('never_responds = { value = 0.1, source = " " }', "expected a source, or the word guess"),
        ('never_responds = { value = 0.1, low = 0.2, high = 0.3, source = "x" }', "expected low <= value <= high"),
        ('never_responds = { value = 0.1, low = 0.05, source = "x" }', "expected low and high together"),
        ('updates_per_year = { value = 5, events = 9, source = "x" }', "events without the time"),
        ('off = ["hazards"]', "off: unknown key"),
        ('landing = "off"', "landing"),
        ("a" * 100_000 + " = ", "not TOML"),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused_in_a_line(text: str, said: str) -> None:
    """Each problem is one line that names file, key, what was found and what was expected."""
    with pytest.raises(ValueError, match=r"^mine\.toml: ") as problem:
        read(text)
    assert said in str(problem.value)
    assert "\n" not in str(problem.value)


def test_another_value_keeps_factors_in_order() -> None:
    """A figure is set for sensitivity; milder factors are lowered to it, harder ones raised."""
    assumed = load_assumptions()
    for key, figure in assumed.figures().items():
        for value in figure.range90:
            assert assumed.with_value(key, value).figures()[key].value == pytest.approx(value)
    low = assumed.with_value("factors.fully_blocked", 1.1).factors
    assert low is not None
    assert [figure.value for figure in low.in_order] == [1.1] * 4
