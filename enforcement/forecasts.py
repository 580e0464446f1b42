"""What a notebook or a command asks of the days to come: each question one call on a store."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from enforcement import shipped
from enforcement.assumptions import Assumptions
from enforcement.builds_to_come import not_applied
from enforcement.comparison import Comparison
from enforcement.history import History
from enforcement.outlook import Outlook, outlook
from enforcement.policy import NO_POLICY, Policy
from enforcement.rollout import Rollout, Trial, rollout
from enforcement.rollout_bands import bands_frame, thinness, times_frame, totals_frame
from enforcement.rollout_differences import differences_frame
from enforcement.standing import standings
from enforcement.standpoint import Standpoint, standpoint
from enforcement.workbench import Setting, opened_history

HORIZON_DAYS: Final = 365
MOST_DAYS: Final = 3_660
MOST_DRAWS: Final = 1_000_000
BANDS_NAME: Final = "bands.parquet"
RECORD_NAME: Final = "rollout.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What may happen, what it rests on, and what was supposed.

    not_applied: the rules of each policy that builds to come are not judged by.
    """

    rollout: Rollout
    assumptions: Assumptions
    n_several: int
    not_applied: dict[str, tuple[str, ...]]
    record: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Policies, by name, path or value; what stands beside them (a policy, or none); and how many days ahead."""

    policies: Sequence[str | Policy]
    baseline: str | Policy = NO_POLICY
    n_days: int = HORIZON_DAYS


def beside(compared: Comparison, *, n_days: int) -> Question:
    """Ask of the days to come what a comparison asks of the past, under the names that it has for policies."""
    named = [each.replay.policy.model_copy(update={"name": each.name}) for each in compared.all]
    if compared.baseline is None:
        return Question(policies=named, n_days=n_days)
    return Question(policies=named[1:], baseline=named[0], n_days=n_days)


def forecast(
    asked: Question, setting: Setting, trial: Trial, report: Callable[[str, int, int], None] = lambda *_: None
) -> Forecast:
    """Draw what may happen under a baseline and under policies, from the setting's last day on.

    Under `none` nothing is enforced, and the rules of the first policy say who is vulnerable.
    """
    n_days, baseline = asked.n_days, asked.baseline
    check_days(n_days)
    if not 1 <= trial.n_draws <= MOST_DRAWS:
        raise ValueError(f"{trial.n_draws} draws (expected 1 to {MOST_DRAWS:,})")
    assumptions = people(setting)
    loaded = [_loaded(policy) for policy in asked.policies]
    first = loaded[0] if baseline == NO_POLICY else _loaded(baseline)
    others = [policy for policy in loaded if baseline == NO_POLICY or policy != first]
    names = [policy.name for policy in others] + ([] if baseline == NO_POLICY else [first.name])
    if len(set(names)) < len(names):
        raise ValueError("two policies of one name (give each its own)")
    report("opening the history", 0, 0)
    with opened_history(setting) as history:
        at = standpoint_of(history, first, setting)
        looks: list[tuple[str, Outlook]] = []
        for policy, enforced in [(first, baseline != NO_POLICY), *((policy, True) for policy in others)]:
            report(f"looking at {policy.name}", len(looks), len(others) + 1)
            look = outlook(at, policy, setting.background(), n_days=n_days, enforced=enforced, risk_by=first)
            looks.append((look.name, look))
        rests_on = {"traffic": history.fingerprint}
    found = rollout(at, looks, assumptions, trial, lambda done: report("drawing", done, trial.n_draws))
    rests_on |= {path.name: _hash(path.read_bytes()) for path in shipped.catalogue_files()}
    rests_on["assumptions"] = _hash(assumptions.model_dump_json().encode())
    for policy in (first, *loaded):
        rests_on[f"policy {policy.name}"] = _hash(policy.model_dump_json().encode())
    if setting.pauses is not None:
        rests_on["pauses"] = _hash(setting.pauses.read_bytes())
    record = {
        "policies": list(found.policies),
        "baseline": NO_POLICY if baseline == NO_POLICY else first.name,
        "as_of": str(found.as_of),
        "days": n_days,
        "draws": trial.n_draws,
        "seed": trial.seed,
        "assumptions": setting.assumptions,
        "program": shipped.program_hash(),
        "inputs": rests_on,
    }
    return Forecast(
        rollout=found,
        assumptions=assumptions,
        n_several=at.n_several,
        not_applied={policy.name: rules for policy in (first, *others) if (rules := not_applied(policy))},
        record=record,
    )


def _loaded(policy: str | Policy) -> Policy:
    return policy if isinstance(policy, Policy) else shipped.load_policy(policy)


def check_days(n_days: int) -> None:
    """Refuse a horizon that is none."""
    if not 1 <= n_days <= MOST_DAYS:
        raise ValueError(f"a forecast of {n_days} days (expected 1 to {MOST_DAYS:,})")


def people(setting: Setting) -> Assumptions:
    """Load a setting's assumptions, which must say how people react."""
    assumptions = shipped.load_assumptions(setting.assumptions)
    assumptions.expect_people(source=shipped.assumptions_file(setting.assumptions).name)
    return assumptions


def standpoint_of(history: History, rules: Policy, setting: Setting) -> Standpoint:
    """Give the fleet as it stands on a setting's last day."""
    as_of = setting.period(history).to_on
    proven = standings(history.builds, shipped.load_catalogue(), rules)
    return standpoint(history, as_of, silent_after_days=rules.silent_after_days, known=proven)


def forecast_answer(of: Forecast) -> list[dict[str, Any]]:
    """Give a forecast as scripts read it, one part a policy."""
    found = of.rollout
    by_day, totals, times = bands_frame(found), totals_frame(found), times_frame(found)
    thin = thinness(found)
    return [
        {
            "policy": policy,
            "as_of": found.as_of,
            "days": found.n_days,
            "draws": found.n_draws,
            "seed": found.seed,
            "servers": found.n_servers,
            "vulnerable_servers": found.n_vulnerable[place],
            "vulnerable_tenants": found.n_vulnerable_tenants[place],
            "thin": policy in thin,
            "by_day": by_day.filter(policy=policy).drop("policy").to_dicts(),
            "totals": totals.filter(policy=policy).drop("policy").to_dicts(),
            "times": times.filter(policy=policy).drop("policy").to_dicts(),
            "rules_not_applied_to_builds_to_come": of.not_applied.get(policy, ()),
            "guesses": [each._asdict() for each in of.assumptions.guesses()],
        }
        for place, policy in enumerate(found.policies)
    ]


def ahead_answer(of: Forecast, policy: str, against: str) -> dict[str, Any]:
    """Give how a policy differs from another in what may happen, as scripts read it."""
    found = of.rollout
    return {
        "as_of": found.as_of,
        "days": found.n_days,
        "draws": found.n_draws,
        "seed": found.seed,
        "differences": differences_frame(found, against).filter(policy=policy).drop("policy").to_dicts(),
        "thin": policy in thinness(found),
        "guesses": [each._asdict() for each in of.assumptions.guesses()],
    }


def write_forecast(of: Forecast, folder: Path) -> None:
    """Write the bands as Parquet and the record, by which they can be made again, as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    bands_frame(of.rollout).write_parquet(folder / BANDS_NAME)
    record = of.record | {"sha256": {BANDS_NAME: _hash((folder / BANDS_NAME).read_bytes())}}
    text = json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    (folder / RECORD_NAME).write_text(text, encoding="utf-8", newline="\n")


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
