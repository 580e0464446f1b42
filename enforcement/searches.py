"""What a notebook or a command asks of many schedules, or of many assumptions: each question one call on a store."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from enforcement import shipped
from enforcement.assumptions import Assumptions
from enforcement.candidates import Candidates, candidates, check_fleets, fleet_key, said
from enforcement.chance import Ints
from enforcement.course import Background
from enforcement.expected import Totals, expected_many, prepare, schedules
from enforcement.expected_fleet import ExpectedFleet, expected_fleet
from enforcement.forecasts import HORIZON_DAYS, check_days, people, standpoint_of
from enforcement.frontier import OBJECTIVES, Frontier, frontier
from enforcement.policy import Policy
from enforcement.policy_writing import policy_toml
from enforcement.sensitivity import sensitivity
from enforcement.space import Space, parse_space
from enforcement.standpoint import Standpoint
from enforcement.workbench import Setting, opened_history

MOST_CANDIDATES: Final = 1_000_000
TABLE_NAME: Final = "candidates.parquet"
FRONT_NAME: Final = "front.csv"
RECORD_NAME: Final = "frontier.json"
_STEP_DAYS: Final = 7  # candidates are judged week by week

Reports = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A space file, how many candidates are judged at most, how they are drawn, and how many days ahead."""

    space: Path
    n_days: int = HORIZON_DAYS
    at_most: int = 10_000
    seed: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """What a search has found, and what it rests on."""

    frontier: Frontier
    candidates: Candidates
    base: Policy
    fleet: ExpectedFleet
    assumptions: Assumptions
    record: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Swings:
    """What moves the answer most, and what it rests on: a row a figure, as `sensitivity` gives them."""

    table: pl.DataFrame
    measure: str
    policy: Policy
    fleet: ExpectedFleet
    assumptions: Assumptions
    as_of: str


def search(asked: Search, setting: Setting, report: Reports = lambda *_: None) -> Searched:
    """Judge the candidates of a space from the setting's last day on, and place the shipped policies among them.

    The rules of the base say what a risk is, for all of them.
    """
    check_days(asked.n_days)
    if not 1 <= asked.at_most <= MOST_CANDIDATES:
        raise ValueError(f"{asked.at_most} candidates (expected 1 to {MOST_CANDIDATES:,})")
    assumptions = people(setting)
    space = parse_space(shipped.read_text(asked.space), source=asked.space.name)
    base = _base(space, asked.space)
    report("listing candidates", 0, 0)
    listed = candidates(space, base, at_most=asked.at_most, seed=asked.seed)
    check_fleets(listed.policies)
    others = [base, *(policy for name in shipped.shipped_policies() if (policy := shipped.load_policy(name)) != base)]
    background = setting.background()
    report("opening the history", 0, 0)
    with opened_history(setting) as history:
        at = standpoint_of(history, base, setting)
        known = _Fleets(at, background, asked.n_days, base)
        judged = _judged(
            listed.policies, known, assumptions, background, lambda done: report("judging", done, len(listed.policies))
        )
        report("placing the shipped policies", 0, 0)
        placed = _judged(others, known, assumptions, background)
        fingerprint = history.fingerprint
    record = {
        "space": asked.space.name,
        "as_of": str(at.as_of),
        "days": asked.n_days,
        "candidates": asked.at_most,
        "seed": asked.seed,
        "assumptions": setting.assumptions,
        "program": shipped.program_hash(),
        "traffic": fingerprint,
        "combinations": said(listed),
    }
    return Searched(
        frontier=frontier(listed.policies, judged, space.bounds, others, placed),
        candidates=listed,
        base=base,
        fleet=known.of(base),
        assumptions=assumptions,
        record=record,
    )


def swings(
    policy: str | Policy,
    setting: Setting,
    *,
    measure: str,
    n_days: int = HORIZON_DAYS,
    report: Reports = lambda *_: None,
) -> Swings:
    """Say which assumption moves a policy's answer most, from the setting's last day on."""
    check_days(n_days)
    assumptions = people(setting)
    rules = policy if isinstance(policy, Policy) else shipped.load_policy(policy)
    background = setting.background()
    report("opening the history", 0, 0)
    with opened_history(setting) as history:
        at = standpoint_of(history, rules, setting)
        fleet = _Fleets(at, background, n_days, rules).of(rules)
    schedule = schedules([rules], background.senders)[0]
    table = sensitivity(fleet, schedule, assumptions, measure, lambda done, of: report("trying figures", done, of))
    return Swings(table=table, measure=measure, policy=rules, fleet=fleet, assumptions=assumptions, as_of=str(at.as_of))


def write_search(found: Searched, folder: Path) -> None:
    """Write all candidates as Parquet, the front as CSV, and the record by which both can be made again."""
    folder.mkdir(parents=True, exist_ok=True)
    found.frontier.table.write_parquet(folder / TABLE_NAME)
    found.frontier.front.write_csv(folder / FRONT_NAME)
    text = json.dumps(found.record, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    (folder / RECORD_NAME).write_text(text, encoding="utf-8", newline="\n")


def save_candidate(found: Searched, number: int, path: Path) -> Policy:
    """Write a candidate, by its number, as a policy file that `check` accepts."""
    policies = found.frontier.policies
    if not 1 <= number <= len(policies):
        raise LookupError(f"no candidate {number} (expected 1 to {len(policies):,}, as in the column number)")
    policy = policies[number - 1]
    row = found.frontier.table.row(number - 1, named=True)
    of_mail = ", ".join(f"{words} {100 * row[f'{key}_share']:.1f} %" for key, words in OBJECTIVES.items())
    heading = (
        f"Candidate {number} of {found.record['space']}, from {found.base.name}; seed {found.record['seed']}.\n"
        f"Expected over {found.record['days']} days from {found.record['as_of']}, of all mail: {of_mail}."
    )
    named = policy.model_copy(update={"title": "", "reference": f"candidate {number} of a frontier search"})
    path.write_text(policy_toml(named, heading=heading), encoding="utf-8", newline="\n")
    return named


class _Fleets:
    """The fleets of policies, each made once: those of like rules, cohorts and notices share theirs."""

    def __init__(self, at: Standpoint, background: Background, n_days: int, base: Policy) -> None:
        self._at, self._background, self._n_days = at, background, n_days
        self._known: dict[str, ExpectedFleet] = {}
        self._risk_by: Ints | None = None
        first = self.of(base)
        if not first.n_vulnerable:
            raise LookupError(
                f"no server in sight is vulnerable on {at.as_of} (nothing to judge; give another --as-of)"
            )
        self._risk_by = first.rules

    def of(self, policy: Policy) -> ExpectedFleet:
        key = fleet_key(policy)
        if key not in self._known:
            self._known[key] = expected_fleet(
                self._at,
                policy,
                self._background,
                n_days=self._n_days,
                step=_STEP_DAYS,
                risk_by=self._risk_by,
                may_pause=True,
            )
        return self._known[key]


def _judged(
    policies: Sequence[Policy],
    known: _Fleets,
    assumptions: Assumptions,
    background: Background,
    report: Callable[[int], None] = lambda _: None,
) -> Totals:
    """Judge policies, those of one fleet together."""
    by_fleet: dict[str, list[int]] = {}
    for place, policy in enumerate(policies):
        by_fleet.setdefault(fleet_key(policy), []).append(place)
    stages = schedules(policies, background.senders)
    parts, done = [], 0
    for places in by_fleet.values():
        fleet = known.of(policies[places[0]])
        own = [stages[place] for place in places]
        parts.append(expected_many(prepare(fleet, assumptions), own, _after(done, report)))
        done += len(places)
    order = np.argsort(np.concatenate([np.array(places) for places in by_fleet.values()]))
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts])[order]
        for name in Totals.__slots__
        if name != "mail"
    }
    return Totals(mail=parts[0].mail, **columns)


def _after(done: int, report: Callable[[int], None]) -> Callable[[int], None]:
    return lambda more: report(done + more)


def _base(space: Space, path: Path) -> Policy:
    beside = path.parent / space.base
    return shipped.load_policy(str(beside) if beside.is_file() else space.base)
