"""Schedules judged on counts: the tables of fates, dense against sparse, one against many, and both against rows."""

import math
from collections import Counter, defaultdict
from datetime import date, timedelta
from typing import Any
from unittest.mock import patch

import numpy as np
import polars as pl
import pytest
from examples import policy
from hypothesis import given, settings
from hypothesis import strategies as st

from enforcement import stage_sums
from enforcement.exposure import CLOCKS, MINUTES, STILL, Counts, Exposure
from enforcement.fates import COUNTS, fates
from enforcement.outcomes import Judge, Judged
from enforcement.policy import Policy, Stage
from enforcement.verdict import Held, Outcome, Sender, follow

EXCHANGE = Sender(name="Exchange", share=1.0, retry_minutes=(15,), gives_up_after_hours=48)
OTHERS = (
    Sender(name="Postfix", share=0.5, retry_minutes=(5, 10, 20, 40, 67), gives_up_after_hours=120),
    Sender(name="in a hurry", share=0.25, retry_minutes=(7,), gives_up_after_hours=0.5),
    Sender(name="at the full hour", share=0.125, retry_minutes=(60,), gives_up_after_hours=24),
    Sender(name="once", share=0.125, retry_minutes=(1440,), gives_up_after_hours=1),
)
EVERY_PAIR = [Held(block=block, throttle=throttle) for block in range(61) for throttle in range(61 - block)]
Found = list[tuple[int, int, int, int, int]]  # day, group, clock, minute, messages
Stages = list[tuple[int, int, int]]  # days, throttle, block
NAMES = {Outcome.AT_ONCE: 0, Outcome.DELAYED: 1, Outcome.REJECTED: 2, Outcome.EXPIRED: 3}


@pytest.mark.parametrize("sender", [EXCHANGE, *OTHERS], ids=lambda sender: sender.name)
def test_fates_are_what_following_each_message_gives(sender: Sender) -> None:
    """For every pair of minutes there is, or every fifth of them, and every minute of the window."""
    pairs = EVERY_PAIR if sender is EXCHANGE else EVERY_PAIR[::5]
    table = fates(pairs, [sender])
    for place, held in enumerate(pairs):
        for k in range(60):
            fate = follow(k, throttle=held.throttle, block=held.block, sender=sender)
            expected = [0.0] * len(COUNTS)
            expected[NAMES[fate.outcome]] = 1
            expected[-1] = fate.retries
            assert table.counts[place, k, 0].tolist() == expected, (held, k)
            late = {m: n for m, n in zip(table.delay_minutes, table.delays[place, k, 0], strict=True) if n}
            assert late == ({fate.delay_minutes: 1} if fate.outcome is Outcome.DELAYED else {})


def test_a_few_messages_beside_very_many_are_counted_exactly() -> None:
    """A stage after one of a billion messages keeps its one, and one after it that has none is empty to the bit."""
    to = schedule([(10, 20, 7), (10, 13, 9), (10, 31, 2), (1, 7, 3)])
    found = [(0, 0, 2, k, 10**9 + k) for k in range(60)] + [(0, 0, 15, 8, 1)]
    judged = Judge(exposure_of(found), OTHERS).judge(to)
    expected = one_by_one([(0, 0, 15, 8, 1)], to, list(OTHERS))["stage", 1]
    assert judged.by_stage[0, 1].tolist() == pytest.approx(expected, rel=1e-12, abs=0)
    assert not judged.by_stage[0, 2:].any()
    assert not judged.late[0, 2:].any()
    assert np.isnan(judged.stage_delay[0, 2:]).all()


stages = st.lists(
    st.tuples(st.integers(1, 60), st.integers(0, 60), st.integers(0, 60)).map(lambda s: (*s[:2], min(s[2], 60 - s[1]))),
    min_size=1,
    max_size=6,
)


def schedule(parts: Stages) -> Policy:
    held = [Stage(days=days, throttle=throttle, block=block) for days, throttle, block in parts[:-1]]
    last = Stage(throttle=parts[-1][1], block=parts[-1][2])
    return policy().model_copy(update={"stages": (*held, last)})


mixes = st.sampled_from([[EXCHANGE], list(OTHERS)])
rows = st.lists(
    st.tuples(
        st.integers(0, 9),  # day
        st.integers(0, 5),  # group
        st.one_of(st.integers(0, 90), st.integers(0, CLOCKS - 1)),
        st.one_of(st.integers(0, STILL - 1), st.just(STILL)),
        st.one_of(st.integers(1, 5), st.integers(1, 10**9)),
    ),
    max_size=60,
)


def exposure_of(found: Found) -> Exposure:
    by_day, by_group = Counter[int](), Counter[int]()
    for day, group, clock, minute, n in found:
        by_day[(day * CLOCKS + clock) * MINUTES + minute] += n
        by_group[(group * CLOCKS + clock) * MINUTES + minute] += n
    days = pl.DataFrame({"day": [date(2026, 3, 1) + timedelta(days=n) for n in range(10)], "at_risk": True})
    groups = pl.DataFrame({"product": ["2013"] * 3 + ["2016"] * 3, "decile": [1, 2, 3] * 2, "at_risk": True})
    return Exposure(by_day=_counts(days, by_day), by_group=_counts(groups, by_group))


def _counts(units: pl.DataFrame, by_cell: Counter[int]) -> Counts:
    cells = sorted(by_cell)
    return Counts(
        units=units, cells=np.array(cells, np.int64), messages=np.array([by_cell[cell] for cell in cells], np.int64)
    )


def one_by_one(found: Found, to: Policy, senders: list[Sender]) -> dict[Any, list[float]]:
    """Follow every message: COUNTS by day, stage, product and decile."""
    sums: dict[Any, list[float]] = defaultdict(lambda: [0.0] * len(COUNTS))
    for day, group, clock, minute, n in found:
        stage = to.stage_at(clock)
        held = to.stage_minutes[stage]
        for sender in senders:
            if minute == STILL:
                outcome, retries = Outcome.AT_ONCE, 0
            else:
                fate = follow(minute, throttle=held.throttle, block=held.block, sender=sender)
                outcome, retries = fate.outcome, fate.retries
            for key in (("day", day), ("stage", stage), ("product", group // 3), ("decile", group % 3)):
                sums[key][NAMES[outcome]] += sender.share * n
                sums[key][-1] += sender.share * n * retries
    return sums


def tables(judged: Judged) -> dict[str, Any]:
    parts = {"day": judged.by_day, "stage": judged.by_stage, "product": judged.by_product, "decile": judged.by_decile}
    return {name: part[0] for name, part in parts.items()}


@settings(deadline=None)
@given(rows, stages, mixes, st.sampled_from([-1, 10**9]))
def test_judging_counts_is_following_messages(
    found: Found, parts: Stages, senders: list[Sender], most_empty: int
) -> None:
    """By day, stage, product and decile; exact for one sender; in both forms that counts are kept in."""
    to = schedule(parts)
    with patch.object(stage_sums, "_MOST_EMPTY", most_empty):
        judged = Judge(exposure_of(found), senders).judge(to)
    expected = one_by_one(found, to, senders)
    for name, table in tables(judged).items():
        for place, counts in enumerate(table.tolist()):
            wanted = expected.get((name, place), [0.0] * len(COUNTS))
            if len(senders) == 1:
                assert counts == wanted, (name, place)
            else:
                assert counts == pytest.approx(wanted, rel=1e-9, abs=1e-12), (name, place)
    late = judged.outcomes().delays
    assert late["messages"].sum() == pytest.approx(judged.totals[0, 1])


@settings(max_examples=30)
@given(
    rows,
    st.lists(stages, min_size=1, max_size=60),
    st.sampled_from([[EXCHANGE], list(OTHERS)]),
    st.sampled_from([0, 10**9]),
)
def test_many_at_once_are_each_alone(
    found: Found,
    many: list[Stages],
    senders: list[Sender],
    octets: int,
) -> None:
    """The batch form gives every policy what it gets alone, also when the tables kept are fewer than are needed."""
    policies = [schedule(parts) for parts in many]
    with patch.object(stage_sums, "_TABLE_OCTETS", octets):
        together = Judge(exposure_of(found), senders).judge_many(policies)
    for place, each in enumerate(policies):
        alone = Judge(exposure_of(found), senders).judge(each)
        n_stages = len(each.stages)
        for name in ("by_day", "by_group", "by_product", "by_decile", "product_delay", "decile_delay"):
            np.testing.assert_allclose(getattr(together, name)[place], getattr(alone, name)[0], rtol=1e-9)
        for name in ("by_stage", "stage_delay", "late"):
            np.testing.assert_allclose(getattr(together, name)[place, :n_stages], getattr(alone, name)[0], rtol=1e-9)
        assert not together.by_stage[place, n_stages:].any()
        assert together.outcomes(place).by_stage.height == n_stages


def test_percentiles_of_delay_by_stage_product_and_decile() -> None:
    """Worked by hand: deferred at k 0, 20 and 35 of 40 minutes, tries every 15: 45, 30 and 15 minutes late."""
    to = schedule([(10, 40, 0), (1, 0, 0)])
    late = [(0, 0, 3, 0, 3), (0, 0, 3, 20, 1), (1, 4, 3, 35, 7), (1, 4, 20, 0, 5)]
    judged = Judge(exposure_of(late), [EXCHANGE]).judge(to)
    assert judged.stage_delay[0, 0].tolist() == [(3 * 45 + 30 + 7 * 15) / 11, 15, 45, 45]
    assert all(math.isnan(figure) for figure in judged.stage_delay[0, 1])
    assert judged.products == ("2013", "2016")
    assert judged.product_delay[0].tolist() == [[(3 * 45 + 30) / 4, 45, 45, 45], [15, 15, 15, 15]]
    assert judged.decile_delay[0, 0].tolist() == [(3 * 45 + 30) / 4, 45, 45, 45]
    assert judged.totals[0].tolist() == [5, 11, 0, 0, 3 * 3 + 2 + 7]


def test_a_copy_of_a_policy_forgets_what_was_worked_out() -> None:
    """Stages that a copy changes are the ones it is judged by."""
    first = schedule([(10, 40, 0), (1, 0, 0)])
    assert first.stage_starts == (0, 10)
    copy = first.model_copy(update={"stages": (Stage(block=60),)})
    assert (copy.stage_starts, copy.stage_minutes, len(copy.phases)) == ((0,), (Held(block=60, throttle=0),), 1)
    assert first.stage_starts == (0, 10)
