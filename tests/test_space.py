"""Space files: read with errors that help, listed in full or drawn evenly, and every candidate a valid policy."""

from collections import Counter
from datetime import date
from pathlib import Path

import pytest
from fleets import policies
from hypothesis import given, settings
from policy_examples import EVERY_KEY

from enforcement.candidates import Candidates, candidates, check_fleets, fleet_key, said, stages_in_words
from enforcement.policy import Policy
from enforcement.policy_text import parse_policy
from enforcement.policy_writing import policy_toml
from enforcement.shipped import DATA, load_policy, shipped_policies
from enforcement.space import Space, parse_space

BASE = 'base = "ninety-days"\n'


def space(text: str) -> Space:
    return parse_space(BASE + text, source="s.toml")


def listed(text: str, *, base: Policy | None = None, at_most: int = 10_000, seed: int = 1) -> Candidates:
    return candidates(space(text), base or load_policy("ninety-days"), at_most=at_most, seed=seed)


def words(text: str, *, at_most: int = 10_000, seed: int = 1) -> list[str]:
    return [stages_in_words(policy) for policy in listed(text, at_most=at_most, seed=seed).policies]


def test_all_combinations_by_hand() -> None:
    """Values, lists and ranges are combined in full; left out stages and repeated policies are told apart."""
    found = words("""stages = [
        { days = { from = 10, to = 30, step = 10 } },
        { days = 5, throttle = [5, 10], optional = true },
        { block = 60 },
    ]""")
    assert found == [
        "10d, 5d t5, b60", "10d, b60", "10d, 5d t10, b60",
        "20d, 5d t5, b60", "20d, b60", "20d, 5d t10, b60",
        "30d, 5d t5, b60", "30d, b60", "30d, 5d t10, b60",
    ]  # fmt: skip


def test_what_becomes_of_combinations_is_counted() -> None:
    """Invalid, falling, early and repeated ones add up with the candidates to all that were tried."""
    found = listed("""
        stages = [
            { days = [10, 30, 395] },
            { days = 10, throttle = [5, 30], optional = true },
            { days = 10, throttle = [0, 30], block = [10, 40] },
            { block = 60 },
        ]
        [bounds]
        days_before_block = 25
    """)
    assert found.is_complete
    assert found.n_combinations == found.n_tried == 3 * 2 * 2 * 2 * 2
    counted = found.n_invalid + found.n_falling + found.n_early + found.n_same + len(found.policies)
    assert counted == found.n_tried
    assert all((found.n_invalid, found.n_falling, found.n_early, found.n_same))
    assert "stages" in found.invalid_because
    for policy in found.policies:
        starts = dict(zip(policy.stage_starts, policy.stages, strict=True))
        assert min(start for start, stage in starts.items() if stage.block) >= 25
        held = [stage.block + stage.throttle for stage in policy.stages]
        assert held == sorted(held)


def test_minutes_may_not_fall_unless_the_space_says_so() -> None:
    """Neither the blocked ones, nor blocked and throttled together."""
    second = "{ days = 5, throttle = [40, 5], block = [10, 20] }"
    text = f"stages = [{{ days = 5, throttle = 10, block = 20 }}, {second}, {{ block = 60 }}]"
    assert words(text) == ["5d t10 b20, 5d t40 b20, b60"]
    assert len(words("minutes_may_fall = true\n" + text)) == 4


def test_any_order_has_every_order_once() -> None:
    """Three stages come in six orders, the last one stays last."""
    found = words("""
        any_order = true
        minutes_may_fall = true
        stages = [{ days = 1 }, { days = 2, throttle = 5 }, { days = 3, block = 5 }, { block = 60 }]
    """)
    assert len(set(found)) == len(found) == 6
    assert all(each.endswith(", b60") for each in found)


def test_cohorts_pauses_and_notices_vary_too() -> None:
    """Each combination is its own policy; those that differ in stages and pauses alone share a fleet."""
    base = parse_policy(EVERY_KEY, source="e.toml")
    found = listed(
        "pause_days_per_year = [0, 30]\ntargeted_notice_days = [14, 30]\n[cohorts]\n2013 = [2024-02-01, 2024-03-01]",
        base=base,
    )
    assert len(found.policies) == 8
    assert {policy.cohorts[0].starts_on for policy in found.policies} == {date(2024, 2, 1), date(2024, 3, 1)}
    assert {policy.cohorts[1:] for policy in found.policies} == {base.cohorts[1:]}
    assert {policy.stages for policy in found.policies} == {base.stages}
    assert len(set(map(fleet_key, found.policies))) == 4
    many = listed("targeted_notice_days = { from = 1, to = 40 }", base=base)
    with pytest.raises(ValueError, match=r"40 combinations \(expected at most 24"):
        check_fleets(many.policies)


MANY = """stages = [
    { days = { from = 1, to = 50 } },
    { days = [10, 20], throttle = { from = 1, to = 20 } },
    { days = { from = 1, to = 50 }, throttle = 20, block = { from = 1, to = 20 } },
    { block = 60 },
]"""


def test_drawn_evenly_and_the_same_for_a_seed() -> None:
    """Of a million combinations so many are tried; each value of a choice comes up equally often."""
    found = listed(MANY, at_most=500)
    assert (found.n_combinations, found.n_tried) == (2_000_000, 500)
    assert "500 of 2,000,000 combinations, drawn evenly" in said(found)
    assert max(Counter(policy.stages[0].days for policy in found.policies).values()) <= 10
    assert len({policy.stages[0].days for policy in found.policies}) == 50
    assert words(MANY, at_most=500) == words(MANY, at_most=500) != words(MANY, at_most=500, seed=2)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("stagse = []", "s.toml: stagse: unknown key (did you mean 'stages'?)"),
        ("stages = [{ days = 0 }, { block = 60 }]", "expected a whole number from 1 to 400, a list of them, or"),
        ("stages = [{ days = [] }, { block = 60 }]", "expected a whole number from 1 to 400"),
        ("stages = [{ days = [7, 7] }, { block = 60 }]", "expected each value once"),
        ("stages = [{ days = { from = 9, to = 3 } }, { block = 60 }]", "expected a whole number"),
        ("stages = [{ days = { from = 1, upto = 3 } }, { block = 60 }]", "expected a whole number"),
        ("stages = [{ days = { from = 1, to = 3, step = 0 } }, { block = 60 }]", "expected a whole number"),
        ("stages = [{ days = true }, { block = 60 }]", "expected a whole number"),
        ("stages = [{ throttle = 5 }, { block = 60 }]", "stages[0].days: missing (only the last stage has no days)"),
        ("stages = [{ days = 5 }]", "the last stage has no end"),
        ("stages = [{ days = 5 }, { block = 60, optional = true }]", "the last stage is always there"),
        ("any_order = true", "to be in any order"),
        ("[bounds]\nlost_share_of_mail = 1.5", "bounds.lost_share_of_mail = 1.5: expected 0"),
        ("[bounds]\nlost_share = 0.5", "bounds.lost_share: unknown key (did you mean 'lost_share_of_mail'?)"),
        ("[cohorts]\nall = 7", "expected a date without quotes"),
    ],
)
def test_a_wrong_space_is_one_line_that_helps(text: str, told: str) -> None:
    """It names the key, what was found, and what was expected."""
    with pytest.raises(ValueError, match=r"^s\.toml: [^\n]+$") as problem:
        space(text)
    assert told in str(problem.value)


def test_the_shipped_example_is_valid_and_large() -> None:
    """data/spaces/example.toml reads, and has more combinations than are drawn by default."""
    example = parse_space((DATA / "spaces" / "example.toml").read_text(), source="example.toml")
    found = candidates(example, load_policy(example.base), at_most=300, seed=1)
    assert found.n_combinations > 10_000
    assert len(found.policies) > 200


@given(policies())
@settings(max_examples=60)
def test_a_written_policy_reads_back_the_same(policy: Policy) -> None:
    """Whatever a policy holds, its TOML is that policy."""
    assert parse_policy(policy_toml(policy, heading="# a\nheading"), source="p.toml") == policy


def test_shipped_policies_are_written_and_read_back() -> None:
    """The same for those that people use, and the example of every key."""
    for policy in (*map(load_policy, shipped_policies()), parse_policy(EVERY_KEY, source="e.toml")):
        assert parse_policy(policy_toml(policy), source="p.toml") == policy


def test_a_base_beside_the_space(tmp_path: Path) -> None:
    """Candidates of any base keep all of it that the space does not name."""
    base = parse_policy(EVERY_KEY, source="e.toml")
    (policy,) = listed("", base=base).policies
    assert policy.model_copy(update={"name": base.name}) == base
    (tmp_path / "p.toml").write_text(policy_toml(policy))
    assert parse_policy((tmp_path / "p.toml").read_text(), source="p.toml") == policy
