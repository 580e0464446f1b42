"""A policy while it is being designed: edits one after the other, each of which can be undone, valid or not yet."""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any, Final, Literal

from enforcement.policy import Policy
from enforcement.policy_problems import Place, node_at
from enforcement.policy_text import Problem, policy_of, policy_schema, read_toml

_WHOLE = re.compile(r"-?\d{1,18}")
_NUMBER = re.compile(r"-?\d{1,18}(\.\d{1,18})?(e-?\d{1,3})?", re.IGNORECASE)
_NEW_STAGE_DAYS: Final = 10
_MOST_STEPS: Final = 500  # that can be undone; none is forgotten, older ones become one

Kind = Literal["set", "insert", "delete"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One change: `set` the value at a place (None: leave the key out), `insert` into or `delete` from a list."""

    kind: Kind
    place: Place
    value: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Edits that are undone together, and the data before them; those of one gesture, e.g. one drag, are one step."""

    edits: tuple[Edit, ...]
    before: Mapping[str, Any]
    gesture: str = ""


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A policy's file as its author wrote it, and the steps taken since; `data` is what TOML would hold now.

    saved: the data of the file as it was last read or written.
    """

    text: str
    data: dict[str, Any]
    saved: dict[str, Any]
    steps: tuple[Step, ...] = ()
    undone: tuple[Step, ...] = ()
    policy: Policy | None = field(init=False)
    problems: tuple[Problem, ...] = field(init=False)

    def __post_init__(self) -> None:
        policy, problems = policy_of(self.data)
        object.__setattr__(self, "policy", policy)
        object.__setattr__(self, "problems", problems)

    @property
    def edits(self) -> tuple[Edit, ...]:
        """All edits of the author's file, in order."""
        return tuple(edit for step in self.steps for edit in step.edits)

    @property
    def is_changed(self) -> bool:
        """Whether it says something else than the file."""
        return self.data != self.saved

    def edited(self, edits: Sequence[Edit], *, gesture: str = "") -> "Draft":
        """Take a step; one of the gesture of the last step takes its place."""
        before, steps = self.data, self.steps
        if gesture and steps and steps[-1].gesture == gesture:
            before, steps = dict(steps[-1].before), steps[:-1]
        data = before
        for edit in edits:
            data = applied(data, edit)
        if data == before:
            return replace(self, data=before, steps=steps)
        steps = (*steps, Step(edits=tuple(edits), before=before, gesture=gesture))
        if len(steps) > _MOST_STEPS:
            first = Step(edits=steps[0].edits + steps[1].edits, before=steps[0].before)
            steps = (first, *steps[2:])
        return replace(self, data=data, steps=steps, undone=())

    def undo(self) -> "Draft":
        """Take the last step back; without one, nothing happens."""
        if not self.steps:
            return self
        last = self.steps[-1]
        after = replace(last, before=self.data)  # what redo leads to
        return replace(self, data=dict(last.before), steps=self.steps[:-1], undone=(*self.undone, after))

    def redo(self) -> "Draft":
        """Take the step again that was taken back last."""
        if not self.undone:
            return self
        again = self.undone[-1]
        step = replace(again, before=self.data)
        return replace(self, data=dict(again.before), steps=(*self.steps, step), undone=self.undone[:-1])

    def kept(self) -> "Draft":
        """Note that the file now says what the draft says."""
        return replace(self, saved=self.data)


def begun(text: str) -> Draft:
    """Begin with a policy's text; a text that is no TOML is a ValueError, one that is no valid policy is a draft.

    >>> draft = begun('schema_version = 1')
    >>> draft.policy, [problem.place for problem in draft.problems]
    (None, [('name',), ('rules',), ('cohorts',), ('stages',)])
    """
    data = read_toml(text)
    return Draft(text=text, data=data, saved=data)


def applied(data: dict[str, Any], edit: Edit) -> dict[str, Any]:
    """Give data with an edit made; what was there before stays as it is. A place that is none is a LookupError.

    >>> applied({"stages": [{"days": 30}, {"block": 60}]}, Edit(kind="set", place=("stages", 0, "days"), value=20))
    {'stages': [{'days': 20}, {'block': 60}]}
    >>> applied({"stages": [{"days": 30}]}, Edit(kind="insert", place=("stages", 1), value={"block": 60}))
    {'stages': [{'days': 30}, {'block': 60}]}
    """
    changed: dict[str, Any] = _changed(data, edit.place, edit)
    return changed


def _changed(node: Any, place: Place, edit: Edit) -> Any:  # noqa: ANN401 - any part of a TOML document
    key = place[0]
    if isinstance(node, dict) and isinstance(key, str):
        if len(place) > 1:
            return node | {key: _changed(node.get(key, _empty(place[1])), place[1:], edit)}
        if edit.kind == "set":
            kept = {name: value for name, value in node.items() if name != key or edit.value is not None}
            return kept if edit.value is None else kept | {key: edit.value}
    if isinstance(node, list) and isinstance(key, int):
        inserts = len(place) == 1 and edit.kind == "insert"
        if 0 <= key < len(node) + inserts:
            if len(place) > 1:
                return [*node[:key], _changed(node[key], place[1:], edit), *node[key + 1 :]]
            new = [] if edit.kind == "delete" else [edit.value]
            return [*node[:key], *new, *node[key + (not inserts) :]]
    raise LookupError(f"no such place in the policy: {json.dumps(edit.place)[:200]}")


def _empty(key: str | int) -> Any:  # noqa: ANN401 - a table or a list
    return {} if isinstance(key, str) else []


def read_edit(told: Mapping[str, Any]) -> Edit:
    """Read an edit as a browser tells it; a value becomes what TOML would hold at its place, where it can.

    >>> read_edit({"kind": "set", "place": ["cohorts", 0, "starts_on"], "value": "2026-01-31"}).value
    datetime.date(2026, 1, 31)
    >>> read_edit({"kind": "set", "place": ["stages", 0, "days"], "value": "ten"}).value
    'ten'
    """
    kind, place, value = told.get("kind"), told.get("place"), told.get("value")
    if kind not in ("set", "insert", "delete") or not isinstance(place, list) or not place:
        raise ValueError(f"no edit: {json.dumps(dict(told), default=str)[:200]} (expected kind, place and value)")
    if not all(isinstance(part, str) or type(part) is int for part in place) or not _known(tuple(place)):
        raise LookupError(f"no such place in a policy: {json.dumps(place)[:200]}")
    return Edit(kind=kind, place=tuple(place), value=_typed(tuple(place), value))


def _known(place: Place) -> bool:
    """Whether a policy can have something there."""
    return all(bool(node_at(place[: length + 1], policy_schema())) for length in range(len(place)))


def _typed(place: Place, told: Any) -> Any:  # noqa: ANN401 - any part of a JSON document
    """Read a value as what is expected at its place; what cannot be read so stays, and is called wrong later."""
    if isinstance(told, dict):
        return {str(key): _typed((*place, str(key)), value) for key, value in told.items() if value not in (None, "")}
    node = node_at(place, policy_schema())
    kind = node.get("format", node.get("type"))
    if kind == "array" and isinstance(told, str):
        told = [part.strip() for part in told.split(",") if part.strip()]
    if isinstance(told, list):
        return [_typed((*place, index), each) for index, each in enumerate(told) if each is not None] or None
    if isinstance(told, float) and told.is_integer() and kind == "integer":
        return int(told)
    if isinstance(told, str):
        return _from_text(told.strip(), kind, told)
    return told


def _from_text(text: str, kind: object, told: str) -> object:
    if kind == "integer" and _WHOLE.fullmatch(text):
        return int(text)
    if kind == "number" and _NUMBER.fullmatch(text):
        return float(text)
    if kind == "date":
        with suppress(ValueError):
            return date.fromisoformat(text)
    return told


def stage_inserted(data: Mapping[str, Any], after: int) -> list[Edit]:
    """Insert a stage after another, with its minutes; since the last stage has no end, a new one comes before it.

    >>> stage_inserted({"stages": [{"days": 30}, {"block": 60}]}, 0)[0].value
    {'days': 10}
    """
    stages = data["stages"]
    at = min(after + 1, len(stages) - 1)
    like = stages[at - 1] if at else {}
    minutes = {key: like[key] for key in ("throttle", "block") if key in like}
    return [Edit(kind="insert", place=("stages", max(at, 0)), value={"days": _NEW_STAGE_DAYS} | minutes)]


def stage_deleted(data: Mapping[str, Any], at: int) -> list[Edit]:
    """Delete a stage, not the only one; when it is the last, the one before it loses its end.

    >>> [edit.place for edit in stage_deleted({"stages": [{"days": 30}, {"block": 60}]}, 1)]
    [('stages', 1), ('stages', 0, 'days')]
    """
    gone = [Edit(kind="delete", place=("stages", at))]
    is_last = at == len(data["stages"]) - 1
    return gone + ([Edit(kind="set", place=("stages", at - 1, "days"))] if is_last and at else [])
