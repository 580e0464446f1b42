"""A designer at work: a draft, what it is judged on, its file; each wish of the browser is one call."""

import json
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import polars as pl

from enforcement import designer_files, shipped
from enforcement.check import Severity, lints
from enforcement.designer import Draft, begun, read_edit, stage_deleted, stage_inserted
from enforcement.designer_ahead import Ahead, ahead, expected_of, expected_of_baseline
from enforcement.designer_files import ChangedError
from enforcement.designer_view import (
    Ground,
    Outcome,
    builds_under,
    catches,
    caught,
    differs,
    guardrails,
    moved,
    nothing_enforced,
    outcome,
    picture,
)
from enforcement.exporting import Order, export_policy
from enforcement.kept import rested_on
from enforcement.memory import memory
from enforcement.policy import NO_POLICY, Policy
from enforcement.policy_words import beside_the_schedule, stage_words
from enforcement.replay import OVER_A_TENTH_LOST, Replay
from enforcement.workbench import DEFAULT_STORE, Setting, exposed_to, opened_history, replay_policies

_MOST_GROUNDS: Final = 4  # kept, so that undoing a change of rules reads nothing
_HIT: Final = 5  # tenants that are named
_RULES: Final = {"rules", "minimum_builds", "count_private_updates"}


@dataclass(frozen=True, kw_only=True, eq=False)
class _Basis:
    """What a draft is judged on, and beside what: the baseline's outcome goes by the same risk."""

    key: str
    policy: Policy
    ground: Ground
    baseline: Policy | None
    beside: Outcome
    beside_ground: Ground


@dataclass(kw_only=True)
class Session:
    """The state of one designer: `wished` answers the browser."""

    setting: Setting
    asked: str
    _path: Path = field(init=False)
    _known: str | None = field(init=False, default=None)
    _draft: Draft = field(init=False)
    _saved: Policy | None = field(init=False, default=None)
    _bases: dict[str, _Basis] = field(init=False, default_factory=dict)
    _basis: _Basis | None = field(init=False, default=None)
    _ahead: tuple[str, Ahead] | None = field(init=False, default=None)
    _shows_ahead: bool = field(init=False, default=False)
    _shown: str = field(init=False, default="")
    _builds: pl.DataFrame = field(init=False)
    _servers: pl.DataFrame = field(init=False)
    _focus: int = field(init=False, default=0)
    _rules: tuple[str, dict[str, Any]] | None = field(init=False, default=None)
    _before: tuple[Policy, pl.DataFrame] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._load(self.asked)
        with opened_history(self.setting) as history:
            self._builds, self._servers = history.builds, history.servers

    def wished(self, wish: Mapping[str, Any]) -> dict[str, Any]:
        """Do what the browser wishes and answer what to show; what it cannot have is a ValueError or LookupError."""
        began = time.perf_counter()
        does: dict[str, Callable[[Mapping[str, Any]], dict[str, Any] | None]] = {
            "open": self._open,
            "load": self._wish_load,
            "edit": self._edit,
            "stage": self._stage,
            "undo": self._undo,
            "redo": self._redo,
            "count": self._count,
            "expected": self._expect,
            "focus": self._focus_on,
            "remarks": self._remarks,
            "save": self._save,
            "replay": self._replay,
            "export": self._export,
        }
        what = wish.get("do")
        if what == "nothing":  # how long an answer takes by itself
            return {}
        if what not in does:
            raise ValueError(f"no such wish: {str(what)[:40]!r}")
        told = does[str(what)](wish) or {}
        told = self._view() | told
        return told | {"ms": 1000 * (time.perf_counter() - began)}

    # What is worked on

    def _load(self, name: str) -> None:
        path = designer_files.find(name)
        text, known = designer_files.read(path)
        try:
            draft = begun(text)
        except ValueError as problem:
            raise ValueError(f"{path.name}: {problem}") from None
        self._path, self._known, self._draft = path, known, draft
        self._saved, self._rules, self._focus = draft.policy, None, 0

    def _open(self, _: Mapping[str, Any]) -> dict[str, Any]:
        self._count({})
        return self._whole()

    def _wish_load(self, wish: Mapping[str, Any]) -> dict[str, Any]:
        if self._draft.is_changed and not wish.get("anyway"):
            return {"ask": {"what": "load", "policy": wish.get("policy"), "message": "There are changes not saved."}}
        self._load(str(wish.get("policy") or self._path))
        self._count({})
        return self._whole()

    def _edit(self, wish: Mapping[str, Any]) -> None:
        edits = [read_edit(each) for each in wish["edits"]]
        self._draft = self._draft.edited(edits, gesture=str(wish.get("gesture") or ""))

    def _stage(self, wish: Mapping[str, Any]) -> dict[str, Any]:
        stages = self._draft.data.get("stages")
        at = wish.get("at")
        if not isinstance(stages, list) or type(at) is not int or not 0 <= at < len(stages):
            raise LookupError(f"no stage {at!r} to change")
        if wish.get("act") == "insert":
            self._draft = self._draft.edited(stage_inserted(self._draft.data, at))
            return {}
        if len(stages) == 1:
            raise ValueError("the only stage cannot be deleted (a policy has at least one)")
        self._draft = self._draft.edited(stage_deleted(self._draft.data, at))
        if at < len(stages) - 1:
            return {}
        return {"noted": f"Stage {at + 1} is gone; stage {at} is the last now, and the last stage has no end."}

    def _undo(self, _: Mapping[str, Any]) -> None:
        self._draft = self._draft.undo()

    def _redo(self, _: Mapping[str, Any]) -> None:
        self._draft = self._draft.redo()

    def _focus_on(self, wish: Mapping[str, Any]) -> None:
        self._focus, self._rules = int(wish.get("rule") or 0), None

    # What it is judged on

    def _baseline(self) -> tuple[Policy | None, str]:
        """Give the baseline that the draft names, and what is wrong with it."""
        name = self._draft.policy.baseline if self._draft.policy else NO_POLICY
        if name == NO_POLICY:
            return None, ""
        try:
            return shipped.load_policy(name), ""
        except (ValueError, LookupError, OSError) as problem:
            return None, f"baseline: {problem}"

    def _basis_key(self, policy: Policy) -> str:
        return json.dumps([rested_on(policy), policy.baseline], sort_keys=True)

    def _count(self, _: Mapping[str, Any]) -> dict[str, Any]:
        """Count the history under the draft's rules, cohorts, window and pauses, unless it is known."""
        policy = self._draft.policy
        if policy is None:
            return self._whole()
        key = self._basis_key(policy)
        if key not in self._bases:
            baseline = self._baseline()[0]
            senders = self.setting.background().senders
            ground = Ground.of(exposed_to(policy, self.setting, risk_by=baseline or policy), senders)
            if baseline is None:
                beside, beside_ground = nothing_enforced(ground), ground
            else:
                beside_ground = Ground.of(exposed_to(baseline, self.setting, risk_by=baseline), senders)
                beside = outcome(beside_ground, baseline)
            self._bases[key] = _Basis(
                key=key, policy=policy, ground=ground, baseline=baseline, beside=beside, beside_ground=beside_ground
            )
            while len(self._bases) > _MOST_GROUNDS:
                self._bases.pop(next(iter(self._bases)))
        self._basis, self._rules = self._bases[key], None
        return self._whole()

    def _expect(self, wish: Mapping[str, Any]) -> dict[str, Any]:
        self._shows_ahead = bool(wish.get("on"))
        return self._whole()

    def _made_ahead(self, basis: _Basis) -> Ahead:
        """Give the fleet made ready for what the draft is judged on."""
        if self._ahead is None or self._ahead[0] != basis.key:
            self._ahead = (basis.key, ahead(basis.policy, basis.baseline, self.setting))
        return self._ahead[1]

    # What is shown

    def _view(self) -> dict[str, Any]:
        """Tell all that changes with every edit."""
        draft, policy = self._draft, self._draft.policy
        if policy is not None and self._basis is None:  # the file was not valid until now
            self._count({})
        if policy is not None and self._basis is not None:  # undone or redone to what is known: nothing is read
            self._basis = self._bases.get(self._basis_key(policy), self._basis)
        told: dict[str, Any] = {
            "policy": json.loads(json.dumps(draft.data, default=str)),
            "changed": draft.is_changed,
            "target": designer_files.suggested(self._path, draft.data.get("name")),
            "can_undo": bool(draft.steps),
            "can_redo": bool(draft.undone),
            "problems": [{"place": list(problem.place), "line": problem.line} for problem in draft.problems],
            "memory": memory(),
        }
        basis = self._basis
        if policy is None or basis is None:
            return told
        found = outcome(basis.ground, policy)
        told |= {
            "phases": [str(phase) for phase in policy.phases],
            "beside": [*_signed(policy), *beside_the_schedule(policy)],
            "words": [stage_words(*each) for each in zip(policy.stages, policy.stage_starts, strict=True)],
            "picture": picture(basis.ground, found),
            "guardrails": guardrails(basis.ground, found),
            "differs": differs(self._saved, policy),
            "stale": basis.key != self._basis_key(policy),
            "basis": basis.key,
            "rules": self._rules_told(policy, basis),
        }
        if self._shows_ahead:
            told["ahead"] = expected_of(self._made_ahead(basis), policy)
        if self._shown != basis.key:
            self._shown = basis.key
            told |= self._whole()
        return told

    def _rules_told(self, policy: Policy, basis: _Basis) -> dict[str, Any]:
        """Tell what the rules catch on the last day; kept as long as they say the same."""
        key = policy.model_dump_json(include=_RULES) + str(self._focus)
        if self._rules is None or self._rules[0] != key:
            catalogue, on, mail = shipped.load_catalogue(), basis.ground.days[-1], basis.ground.mail
            table = builds_under(self._builds, catalogue, policy)
            before = self._builds_saved(table)
            told: dict[str, Any] = {"each": catches(table, mail, on), "on": str(on)}
            told |= {"moved": moved(table, before, mail, on)}
            if self._focus < len(policy.rules):
                told["caught"] = caught(table, mail, self._servers, on, self._focus)
            self._rules = (key, told)
        return self._rules[1]

    def _builds_saved(self, table: pl.DataFrame) -> pl.DataFrame:
        """Give what the saved policy's rules make of the builds; without a valid one, what the draft's do."""
        if self._saved is None:
            return table
        if self._before is None or self._before[0] != self._saved:
            self._before = (self._saved, builds_under(self._builds, shipped.load_catalogue(), self._saved))
        return self._before[1]

    def _whole(self) -> dict[str, Any]:
        """Tell what changes with the file, the baseline, and what was counted."""
        policy, basis = self._draft.policy, self._basis
        _, problem = self._baseline()
        told: dict[str, Any] = {
            "path": str(self._path),
            "policies": shipped.shipped_policies(),
            "baseline_problem": problem,
        }
        if basis is None:
            return told
        named = basis.baseline.name if basis.baseline else NO_POLICY
        told["baseline"] = {"name": named} | picture(basis.beside_ground, basis.beside)
        told["days"] = [str(day) for day in basis.ground.days]
        told["read"] = float(basis.ground.read.sum())
        if self._shows_ahead and policy is not None:
            ready = self._made_ahead(basis)
            told["ahead_baseline"] = expected_of_baseline(ready, basis.baseline, policy)
            told |= {"as_of": ready.as_of, "n_guesses": ready.n_guesses}
        return told

    def _remarks(self, _: Mapping[str, Any]) -> dict[str, Any]:
        """Tell what `check` would remark."""
        policy = self._draft.policy
        if policy is None:
            return {"remarks": []}
        found = lints(policy, shipped.load_catalogue(), today=datetime.now(tz=UTC).date())
        told = [{"key": lint.key, "message": lint.message, "severity": str(lint.severity)} for lint in found]
        is_own = self._draft.is_changed or self._path.parent != shipped.DATA / "policies"
        if is_own and policy.name in shipped.shipped_policies():
            message = f"{policy.name!r} is the name of a shipped policy: give yours a name of its own"
            told.insert(0, {"key": "name", "message": message, "severity": str(Severity.WARNING)})
        return {"remarks": told}

    # What leaves the designer

    def _save(self, wish: Mapping[str, Any]) -> dict[str, Any]:
        path = designer_files.place(str(wish.get("path") or ""))
        known = self._known if path == self._path.resolve() else None
        try:
            written = designer_files.write(self._draft, path, known=known, over=wish.get("over"))
        except ChangedError as problem:
            asked = {"what": "save" if problem.sha256 else "make", "over": problem.sha256, "policy": str(path)}
            asked["message"] = str(problem)
            return {"ask": asked}
        self._path, self._known = path, written
        self._draft, self._saved, self._rules = self._draft.kept(), self._draft.policy, None
        return {"saved": str(path), "page": self._page_command()} | self._count({})

    def _page_command(self) -> str:
        """Give the command that makes the page of what was saved."""
        told = ["enforcement", "report", "02_policy", "-p", "policy", designer_files.suggested(self._path, None)]
        return shlex.join(told + ([] if self.setting.store == DEFAULT_STORE else ["--store", str(self.setting.store)]))

    def _file(self) -> str:
        """Give the file of what is shown, which must be saved: it is what others will read."""
        if self._draft.is_changed:
            raise ValueError("there are changes not saved (save first: a replay and an export read the file)")
        return str(self._path)

    def _replay(self, _: Mapping[str, Any]) -> dict[str, Any]:
        path = self._file()
        (found,) = replay_policies([path], self.setting, risk_by=self._baseline()[0])
        return {"replayed": _hit(found)}

    def _export(self, _: Mapping[str, Any]) -> dict[str, Any]:
        path = self._file()
        policy = shipped.load_policy(path)
        out = designer_files.PROJECT / "reports" / "exports" / policy.name
        done = export_policy(path, self.setting, Order(out=out))
        return {
            "exported": {
                "folder": str(done.folder),
                "serial": done.manifest["serial"],
                "servers": done.calendar["server"].n_unique(),
                "valid_from": done.manifest["valid_from"],
                "not_after": done.manifest["not_after"],
            }
        }


def _signed(policy: Policy) -> list[tuple[str, str]]:
    told = {"title": policy.title, "author": policy.author, "reference": policy.reference}
    return [(name, text) for name, text in told.items() if text]


def _hit(found: Replay) -> dict[str, Any]:
    """Tell who is hit, and all guardrails: what only a replay knows."""
    tenants = found.tenants
    return {
        "from": str(found.period.from_on),
        "to": str(found.period.to_on),
        "totals": found.totals,
        "tenants": tenants.height,
        "delayed": tenants.filter(pl.col("delayed") > 0).height,
        "lost": tenants.filter(pl.col("lost") > 0).height,
        "over_a_tenth": tenants.filter(OVER_A_TENTH_LOST).height,
        "top": tenants.head(_HIT).select("tenant", "read", "delayed", "lost").to_dicts(),
        "guardrails": found.guardrails.to_dicts(),
    }
