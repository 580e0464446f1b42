"""The policies of a family: every combination of its values, or many drawn evenly; those that are valid and differ."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from itertools import pairwise
from math import factorial, prod
from typing import Any, Final

import numpy as np
from pydantic import ValidationError

from enforcement.chance import spread, stream
from enforcement.names import shown
from enforcement.policy import Policy
from enforcement.policy_problems import problem_line
from enforcement.policy_text import parse_policy, policy_schema
from enforcement.space import Bounds, Space, StageChoice, parse_space

MOST_FLEETS: Final = 24  # combinations of cohort starts and notices: each is a pass over the history
_ORDER: Final = "(order)"  # keys of data in the making, which no policy has
_IS_OUT: Final = "(out)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """The policies of a family that are valid and differ, out of so many combinations.

    n_tried: how many combinations were looked at, all of them when `is_complete`. n_invalid: how many are no policies,
    for instance, the first reason; n_falling: left out as minutes fall; n_early: as they throttle or block too early;
    n_same: policies that came up before.
    """

    policies: tuple[Policy, ...]
    n_combinations: int
    n_tried: int
    n_invalid: int
    invalid_because: str
    n_falling: int
    n_early: int
    n_same: int

    @property
    def is_complete(self) -> bool:
        """Whether every combination was looked at."""
        return self.n_tried == self.n_combinations


@dataclass(frozen=True, slots=True)
class _Dimension:
    """One choice: how many values it has, and how a value changes the keys of a policy."""

    size: int
    change: Callable[[dict[str, Any], int], None]


def candidates(space: Space, base: Policy, *, at_most: int, seed: int) -> Candidates:
    """List the policies of a space: all of them, or as many drawn from it, each choice spread evenly (Latin hypercube).

    Raises LookupError when none is left, and when it names a cohort that the base lacks.

    >>> listed = candidates(*_example(), at_most=100, seed=1)
    >>> [stages_in_words(policy) for policy in listed.policies]
    ['7d, b60', '14d, b60']
    """
    dimensions = list(_dimensions(space, base))
    n_combinations = prod(each.size for each in dimensions)
    rows = _all(dimensions) if n_combinations <= at_most else _drawn(dimensions, at_most, seed)
    found: dict[str, Policy] = {}
    counts = dict.fromkeys(("tried", "invalid", "falling", "early", "same"), 0)
    because = ""
    data = base.model_dump(by_alias=True, exclude_none=True)
    for row in rows:
        counts["tried"] += 1
        changed = data | {"stages": [dict(stage) for stage in data["stages"]], "name": _name(base, counts["tried"])}
        for dimension, value in zip(dimensions, row, strict=True):
            dimension.change(changed, value)
        if space.stages is not None:
            changed["stages"] = _ordered(changed)
        key = repr([changed.get(name) for name in ("stages", "cohorts", "pause", "notice")])
        if key in found:
            counts["same"] += 1
            continue
        try:
            policy = Policy.model_validate(changed, by_alias=True, by_name=False)
        except ValidationError as error:
            counts["invalid"] += 1
            because = because or problem_line(
                error.errors(include_url=False)[0], data=_as_toml(changed), schema=policy_schema()
            )
            continue
        if not space.minutes_may_fall and _falls(policy):
            counts["falling"] += 1
        elif _is_early(policy, space.bounds):
            counts["early"] += 1
        else:
            found[key] = policy
    result = Candidates(
        policies=tuple(found.values()),
        n_combinations=n_combinations,
        invalid_because=because,
        **{f"n_{name}": count for name, count in counts.items()},
    )
    if not found:
        raise LookupError(f"no valid candidate in the space: {said(result)}")
    return result


def said(of: Candidates) -> str:
    """Say in words what became of the combinations.

    >>> said(candidates(*_example(), at_most=100, seed=1))
    'all 3 combinations; 1 throttle or block earlier than the bounds allow'
    """
    # In the order in which a combination is looked at.
    reasons = {
        f"are no policies, e.g. {of.invalid_because}": of.n_invalid,
        "have minutes that fall from a stage to the next (minutes_may_fall = true lets them)": of.n_falling,
        "throttle or block earlier than the bounds allow": of.n_early,
        "are the same as others": of.n_same,
    }
    how = f"all {of.n_combinations:,} combinations" if of.is_complete else (
        f"{of.n_tried:,} of {of.n_combinations:,} combinations, drawn evenly"
    )  # fmt: skip
    return "; ".join([how, *(f"{count:,} {reason}" for reason, count in reasons.items() if count)])


def _name(base: Policy, number: int) -> str:
    return f"{base.name[:50].rstrip('._-')}-{number}"


def _dimensions(space: Space, base: Policy) -> Iterator[_Dimension]:
    """Give the choices that a space leaves; one value is no choice, but is set."""
    if space.stages is not None:
        yield from _of_stages(space.stages, any_order=space.any_order)
    names = [cohort.name for cohort in base.cohorts]
    for name, starts in space.cohorts.items():
        if name not in names:
            near = get_close_matches(name, names, n=1)
            hint = f"did you mean {shown(near[0])}?" if near else f"it has {', '.join(map(shown, names[:20]))}"
            raise LookupError(f"cohorts.{shown(name)[1:-1]}: the base {base.name} has no such cohort ({hint})")
        yield _cohort_start(names.index(name), starts)
    if (quotas := space.pause_days_per_year) is not None:
        yield _Dimension(len(quotas), lambda data, value: data.update(pause={"days_per_year": quotas[value]}))
    if (notices := space.targeted_notice_days) is not None:
        if base.notice is None:
            raise LookupError(f"targeted_notice_days: the base {base.name} asks for no notices (give it a [notice])")
        key = "targeted_days_before"
        yield _Dimension(len(notices), lambda data, value: data.update(notice=data["notice"] | {key: notices[value]}))


def _of_stages(stages: Sequence[StageChoice], *, any_order: bool) -> Iterator[_Dimension]:
    yield _Dimension(1, lambda data, _: data.update(stages=[{} for _ in stages]))
    for place, stage in enumerate(stages):
        for key in ("days", "throttle", "block"):
            if (values := getattr(stage, key)) is not None:
                yield _stage_key(place, key, values)
        if stage.optional:
            yield _stage_key(place, _IS_OUT, (False, True))
    if any_order:
        yield _Dimension(factorial(len(stages) - 1), lambda data, value: data.update({_ORDER: value}))


def _stage_key(place: int, key: str, values: Sequence[object]) -> _Dimension:
    return _Dimension(len(values), lambda data, value: data["stages"][place].update({key: values[value]}))


def _cohort_start(place: int, starts: Sequence[date]) -> _Dimension:
    def change(data: dict[str, Any], value: int) -> None:
        cohorts = list(data["cohorts"])
        cohorts[place] = cohorts[place] | {"starts_on": starts[value]}
        data["cohorts"] = cohorts

    return _Dimension(len(starts), change)


def _ordered(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Take out the stages that are left out, and put the others, but the last, in the order chosen."""
    *moved, last = data["stages"]
    number, left = data.pop(_ORDER, 0), list(range(len(moved)))
    order = []
    for size in range(len(moved), 0, -1):
        place, number = divmod(number, factorial(size - 1))
        order.append(left.pop(place))
    kept = [moved[place] for place in order if not moved[place].pop(_IS_OUT, False)]
    return [*kept, last]


def _all(dimensions: Sequence[_Dimension]) -> Iterator[tuple[int, ...]]:
    sizes = [each.size for each in dimensions]
    for number in range(prod(sizes)):
        row, rest = [], number
        for size in reversed(sizes):
            rest, value = divmod(rest, size)
            row.append(value)
        yield tuple(reversed(row))


def _drawn(dimensions: Sequence[_Dimension], n: int, seed: int) -> Iterator[tuple[int, ...]]:
    """Draw combinations; each value of a choice comes up equally often, but for one."""
    columns = [
        np.minimum((spread(n, stream(seed, place)) * each.size).astype(np.int64), each.size - 1)
        for place, each in enumerate(dimensions)
    ]
    yield from (tuple(row) for row in np.stack(columns, axis=1).tolist())


def _falls(policy: Policy) -> bool:
    """Whether a stage blocks fewer minutes, or holds fewer in all, than the one before."""
    held = [(stage.block, stage.block + stage.throttle) for stage in policy.stages]
    return any(later[0] < before[0] or later[1] < before[1] for before, later in pairwise(held))


def _is_early(policy: Policy, bounds: Bounds) -> bool:
    starts = list(zip(policy.stage_starts, policy.stages, strict=True))
    return any(
        (stage.throttle + stage.block > 0 and start < bounds.days_before_throttle)
        or (stage.block > 0 and start < bounds.days_before_block)
        for start, stage in starts
    )


def _as_toml(data: dict[str, Any]) -> dict[str, Any]:
    """Give the lists of a policy's data as TOML would."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in data.items()}


def fleet_key(policy: Policy) -> str:
    """Name all of a policy that its fleet rests on: policies that differ in stages, window or pauses alone share it.

    >>> from enforcement.policy_text import parse_policy
    >>> text = 'schema_version = 1' + chr(10) + 'name = "p"' + chr(10)
    >>> text += 'rules = [{ name = "r", since = "missing_since" }]'
    >>> text += chr(10) + 'cohorts = [{ name = "all", starts_on = 2026-01-01 }]' + chr(10) + 'stages = [{ block = 60 }]'
    >>> policy = parse_policy(text, source="p.toml")
    >>> fleet_key(policy) == fleet_key(policy.model_copy(update={"title": "other"}))
    True
    """
    told = {"name", "title", "author", "reference", "baseline", "stages", "window", "guardrails", "export", "pause"}
    return policy.model_dump_json(exclude=told)


def check_fleets(policies: Sequence[Policy]) -> None:
    """Refuse more fleets than can be looked at.

    >>> check_fleets(candidates(*_example(), at_most=100, seed=1).policies)
    """
    n = len(set(map(fleet_key, policies)))
    if n > MOST_FLEETS:
        raise ValueError(
            f"cohort starts and notices come in {n} combinations (expected at most {MOST_FLEETS}: each is a pass over"
            " the history; give fewer)"
        )


def stages_in_words(policy: Policy) -> str:
    """Write stages in a line: days, then minutes throttled and blocked.

    >>> from enforcement.policy_text import parse_policy
    >>> text = 'schema_version = 1' + chr(10) + 'name = "p"' + chr(10)
    >>> text += 'rules = [{ name = "r", since = "missing_since" }]'
    >>> text += chr(10) + 'cohorts = [{ name = "all", starts_on = 2026-01-01 }]' + chr(10)
    >>> text += "stages = [{ days = 30 }, { days = 9, throttle = 5, block = 7 }, { block = 60 }]"
    >>> stages_in_words(parse_policy(text, source="p"))
    '30d, 9d t5 b7, b60'
    """

    def words(days: int | None, throttle: int, block: int) -> Iterator[str]:
        yield from (f"{days}d",) if days else ()
        yield from (f"t{throttle}",) if throttle else ()
        yield from (f"b{block}",) if block else ()

    parts = (" ".join(words(stage.days, stage.throttle, stage.block)) for stage in policy.stages)
    return ", ".join(part or "nothing" for part in parts)


def _example() -> tuple[Space, Policy]:
    text = """
        schema_version = 1
        name = "p"
        rules = [{ name = "r", since = "missing_since" }]
        cohorts = [{ name = "all", starts_on = 2026-01-01 }]
        stages = [{ block = 60 }]
    """
    space = 'base = "p"\nstages = [{ days = [1, 7, 14] }, { block = 60 }]\n[bounds]\ndays_before_block = 7'
    return parse_space(space, source="s.toml"), parse_policy(text, source="p.toml")
