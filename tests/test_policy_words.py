"""What differs between policies is said in words, whatever it is."""

from datetime import date, timedelta
from typing import Any, Final

import pytest

from enforcement.policy import (
    Cohort,
    Exemption,
    ExportSettings,
    Guardrail,
    Measure,
    MinimumBuild,
    Notice,
    OnFailure,
    PauseQuota,
    Policy,
    Rule,
    Since,
    Stage,
    Unit,
    Window,
)
from enforcement.policy_words import ABSENT, what_differs
from enforcement.received import Route
from enforcement.shipped import load_policy

_DAY: Final = date(2026, 3, 1)
_OTHER: Final = date(2026, 4, 1)
_FULL: Final = load_policy("ninety-days").model_copy(
    update={
        "rules": (Rule(name="old", since=Since.MISSING_SINCE, after_days=90, when="hop = 'smtp'"),),
        "minimum_builds": (
            MinimumBuild(product="Exchange Server 2016", build="15.1.2507.61", from_on=_DAY, line="CU23"),
        ),
        "cohorts": (Cohort(name="all", starts_on=_DAY, tenants=("a.example",), share_of_tenants=0.5),),
        "stages": (Stage(days=10, throttle=5), Stage(days=10, throttle=5, block=5), Stage(block=60)),
        "notice": Notice(announcement_url="https://a.example/"),
        "pause": PauseQuota(days_per_year=90),
        "exemptions": (Exemption(tenant="a.example", until_on=_DAY, reason="why"),),
        "guardrails": (Guardrail(measure=Measure.LOST_OF_MAIL, per=Unit.DAY, at_most=0.1, min_messages=10),),
    }
)  # fmt: skip


def _changed(field: str, **values: Any) -> Any:
    """Change the part (or the first of the parts) of a field."""
    value = getattr(_FULL, field)
    if isinstance(value, tuple):
        return (value[0].model_copy(update=values), *value[1:])
    return value.model_copy(update=values)


# What a policy may differ in: at least one value for each field, and for each field of its parts.
_CHANGES: Final[dict[str, list[Any]]] = {
    "count_private_updates": [not _FULL.count_private_updates],
    "routes": [(Route.DIRECT,)],
    "rules": [
        *(
            _changed("rules", **change)
            for change in ({"name": "new"}, {"since": Since.EXPLOITED_SINCE}, {"after_days": 1}, {"when": None})
        ),
        (*_FULL.rules, Rule(name="more", since=Since.EXPLOITED_SINCE)),
    ],
    "minimum_builds": [
        (),
        *(
            _changed("minimum_builds", **change)
            for change in (
                {"product": "Exchange Server 2019"}, {"build": "15.1.1.1"}, {"from_on": _OTHER}, {"line": None},
            )
        ),
        (*_FULL.minimum_builds, _FULL.minimum_builds[0].model_copy(update={"from_on": _OTHER})),
    ],
    "cohorts": [
        *(
            _changed("cohorts", **change)
            for change in (
                {"name": "b"}, {"starts_on": _OTHER}, {"products": ("Exchange Server 2016",)}, {"tenants": None},
                {"share_of_tenants": 0.25},
            )
        ),
        (*_FULL.cohorts, Cohort(name="rest", starts_on=_DAY)),
    ],
    "stages": [
        *(_changed("stages", **change) for change in ({"days": 11}, {"throttle": 6}, {"block": 1})),
        _FULL.stages[1:],
    ],
    "window": [Window.SPREAD],
    "clear_after_days": [99],
    "silent_after_days": [99],
    "notice": [
        None,
        *(
            _changed("notice", **change)
            for change in (
                {"announcement_url": "https://b.example/"}, {"general_days_before": 9}, {"targeted_days_before": 9},
                {"stage_days_before": 9},
            )
        ),
    ],
    "pause": [None, PauseQuota(days_per_year=1)],
    "exemptions": [
        (),
        *(
            _changed("exemptions", **change)
            for change in (
                {"tenant": "b.example"}, {"tenant": None, "server": "a.example"}, {"reason": "other"},
                {"from_on": _DAY}, {"until_on": _DAY + timedelta(days=1)},
            )
        ),
    ],
    "guardrails": [
        (),
        *(
            _changed("guardrails", **change)
            for change in (
                {"measure": Measure.DELAYED_OF_MAIL}, {"per": Unit.TENANT}, {"at_most": 0.2}, {"min_messages": 11},
                {"max_unjudged_share": 0.01},
            )
        ),
    ],
    "export": [
        _changed("export", **change)
        for change in ({"service_name": "Mail"}, {"on_failure": OnFailure.DEFER}, {"valid_days": 3})
    ],
}  # fmt: skip
_SAME: Final = ("schema_version", "name", "title", "author", "reference", "baseline")


def test_every_field_is_changed_here() -> None:
    """A field that is added to policies must be said."""
    assert {*_CHANGES, *_SAME} == set(Policy.model_fields)
    for parts in (Rule, MinimumBuild, Cohort, Stage, Notice, PauseQuota, Exemption, Guardrail, ExportSettings):
        field = next(name for name, values in _CHANGES.items() if any(_is_of(value, parts) for value in values))
        changed = [value[0] if isinstance(value, tuple) else value for value in _CHANGES[field] if value]
        original = getattr(_FULL, field)
        first = original[0] if isinstance(original, tuple) else original
        for name in parts.model_fields:
            assert any(getattr(part, name) != getattr(first, name) for part in changed), (parts, name)


def _is_of(value: Any, kind: type) -> bool:
    return isinstance(value[0] if isinstance(value, tuple) and value else value, kind)


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in _CHANGES.items() for value in values])
def test_whatever_differs_is_said(field: str, value: Any) -> None:
    """One change makes at least a row, and each row differs."""
    found = what_differs({"a": _FULL, "b": _FULL.model_copy(update={field: value})})
    assert found.height
    assert (found["a"] != found["b"]).all()


def test_equal_policies_differ_in_nothing() -> None:
    """Names and titles are no difference."""
    renamed = _FULL.model_copy(update=dict.fromkeys(_SAME, "other"))
    assert not what_differs({"a": _FULL, "b": renamed}).height


def test_what_one_policy_does_not_have() -> None:
    """It stands as absent, for any number of policies."""
    found = what_differs({name: load_policy(name) for name in ("ninety-days", "gentler", "stricter")})
    stage = found.filter(what="stage 8").row(0)
    assert stage == ("stage 8", "from day 90 on: everything refused", "from day 180 on: everything refused", ABSENT)


def test_stages_that_only_start_later_are_said_once() -> None:
    """A longer stage is a row, and all those after it are one; a stage that differs beside has its own."""
    before = load_policy("ninety-days")
    longer = (*before.stages[:3], before.stages[3].model_copy(update={"days": 23}), *before.stages[4:])
    found = what_differs({"saved": before, "now": before.model_copy(update={"stages": longer})})
    rows = [row for row in found.rows() if "stage" in row[0]]
    assert rows == [
        (
            "stage 4",
            "days 50 to 59: 20 minutes of each hour deferred",
            "days 50 to 72: 20 minutes of each hour deferred",
        ),
        ("start of stages 5 to 8", "from day 60 on", "from day 73 on: 13 days later"),
    ]
    harder = (*longer[:5], longer[5].model_copy(update={"block": 11}), *longer[6:])
    found = what_differs({"now": before.model_copy(update={"stages": harder}), "saved": before})
    rows = [row for row in found.rows() if "stage" in row[0]]
    assert rows[1] == ("start of stages 5, 7, 8", "from day 73 on", "from day 60 on: 13 days earlier")
    assert rows[2][0] == "stage 6"
    assert len(rows) == 3
