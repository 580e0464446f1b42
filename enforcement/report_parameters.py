"""What each notebook may be asked: its parameters, checked before anything runs."""

import ast
import difflib
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from enforcement import shipped
from enforcement.exporting import Order
from enforcement.forecasts import Question
from enforcement.policy import NO_POLICY, Policy
from enforcement.report_values import (
    POLICY,
    PROJECT,
    AssumptionsName,
    Baseline,
    Day,
    Draws,
    HistoryPath,
    HorizonDays,
    PausesPath,
    Policies,
    PolicyName,
    Seed,
    SpacePath,
    as_shown,
    found,
    loads,
    read_day,
)
from enforcement.rollout import Trial
from enforcement.searches import MOST_CANDIDATES, Search
from enforcement.workbench import Setting

NOTEBOOKS: Final = shipped.DATA.parent / "notebooks"
_INJECTED: Final = "# Parameters"  # how papermill begins the cell in which it sets parameters


class ParameterError(ValueError):
    """Parameters that a notebook cannot run with; one line each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))

    def _render_traceback_(self) -> list[str]:
        """Show in a notebook what is wrong, without the way that led here."""
        return str(self).splitlines()


class Asked(BaseModel):
    """What every notebook may be asked: on which store, up to which day."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    store: Annotated[str, Field(description="the path of a store")] = "data/traffic.duckdb"
    to_on: Day = None

    @property
    def store_path(self) -> Path:
        """The store: from here, or from the project's folder, where notebooks are not."""
        return found(self.store)

    @property
    def setting(self) -> Setting:
        """Where the notebook's questions are asked."""
        pauses = getattr(self, "pauses", None)
        return Setting(
            store=self.store_path,
            from_on=getattr(self, "from_on", None),
            to_on=self.to_on,
            assumptions=getattr(self, "assumptions", "default"),
            pauses=Path(pauses) if pauses else None,
        )

    @property
    def policy_names(self) -> tuple[str, ...]:
        """The policies that the notebook reads."""
        return tuple(filter(None, (getattr(self, "policy", None),)))

    @property
    def files(self) -> dict[str, Path]:
        """The files that the answer depends on beside the store and the catalogue, by their use."""
        setting = self.setting
        files = {f"policy {name}": shipped.policy_file(name) for name in self.policy_names}
        files["assumptions"] = shipped.assumptions_file(setting.assumptions)
        return files | ({"pauses": setting.pauses} if setting.pauses else {})


class AskedExplore(Asked):
    """Parameters of 00_explore."""

    last_days: Annotated[int, Field(ge=1, le=100_000, description="a whole number of days, at least 1")] = 28


class AskedFleet(Asked):
    """Parameters of 01_fleet."""

    policy: Annotated[PolicyName, Field(description=POLICY)] = "ninety-days"
    from_on: Day = None


class AskedPolicy(Asked):
    """Parameters of 02_policy."""

    policy: Annotated[PolicyName, Field(description=POLICY)] = "ninety-days"
    from_on: Day = None
    assumptions: AssumptionsName = "default"
    pauses: PausesPath = None

    @property
    def policy_text(self) -> str:
        """The policy file as it was written."""
        return shipped.policy_file(self.policy).read_text(encoding="utf-8")


class AskedReplay(Asked):
    """Parameters of 03_replay; the baseline is what the first policy names unless it is given."""

    policies: Policies = ["ninety-days", "gentler", "stricter"]
    baseline: Baseline = None
    from_on: Day = None
    assumptions: AssumptionsName = "default"
    pauses: PausesPath = None

    @model_validator(mode="after")
    def _with_baseline(self) -> Self:
        if self.against != NO_POLICY:
            loads(shipped.load_policy)(self.against)  # the one that the first policy names
        return self

    @property
    def against(self) -> str:
        """What the proposals are held against: a policy, or none."""
        named = self.baseline if self.baseline is not None else shipped.load_policy(self.policies[0]).baseline
        return NO_POLICY if set(self.policies) == {named} else named

    @property
    def compared(self) -> list[str]:
        """The policies to replay, the baseline first if it is one, each once."""
        first = [] if self.against == NO_POLICY else [self.against]
        return list(dict.fromkeys([*first, *self.policies]))

    @property
    def policy_names(self) -> tuple[str, ...]:
        """The policies that the notebook reads."""
        return tuple(self.compared)


class AskedDrawn(Asked):
    """What is asked of chance: how often it is drawn."""

    draws: Draws = 400
    seed: Seed = 1

    @property
    def trial(self) -> Trial:
        """How often it is drawn, and from which seed."""
        return Trial(n_draws=self.draws, seed=self.seed)


class AskedAhead(AskedDrawn):
    """What is asked of the days to come: how far ahead, how often drawn."""

    days: HorizonDays = 365


class AskedRollout(AskedAhead):
    """Parameters of 04_rollout; beside the policies stands no policy, unless a baseline is given."""

    policies: Policies = ["ninety-days"]
    baseline: Baseline = None
    assumptions: AssumptionsName = "default"
    pauses: PausesPath = None

    @property
    def question(self) -> Question:
        """What is forecast."""
        return Question(policies=self.policies, baseline=self.baseline or NO_POLICY, n_days=self.days)

    @property
    def policy_names(self) -> tuple[str, ...]:
        """The policies that the notebook reads."""
        named = [] if self.baseline in (None, NO_POLICY) else [self.baseline]
        return tuple(dict.fromkeys([*named, *self.policies]))


class AskedFrontier(Asked):
    """Parameters of frontier."""

    space: SpacePath = "data/spaces/example.toml"
    days: HorizonDays = 365
    candidates: Annotated[
        int, Field(ge=1, le=MOST_CANDIDATES, description=f"a whole number from 1 to {MOST_CANDIDATES}")
    ] = 2_000
    seed: Seed = 1
    assumptions: AssumptionsName = "default"
    pauses: PausesPath = None

    @property
    def search(self) -> Search:
        """What is searched."""
        return Search(space=found(self.space), n_days=self.days, at_most=self.candidates, seed=self.seed)

    @property
    def files(self) -> dict[str, Path]:
        """The files that the answer depends on beside the store and the catalogue, by their use."""
        return super().files | {"space": found(self.space)}


class AskedCompare(AskedReplay, AskedAhead):
    """Parameters of 05_compare; the baseline is what the first policy names unless it is given."""

    @property
    def question(self) -> Question:
        """What is forecast."""
        return Question(policies=self.policies, baseline=self.against, n_days=self.days)


class AskedWeekly(AskedDrawn):
    """Parameters of weekly."""

    policy: Annotated[PolicyName, Field(description=POLICY)] = "ninety-days"
    draws: Draws = 200
    assumptions: AssumptionsName = "default"
    pauses: PausesPath = None


class AskedBacktest(Asked):
    """Parameters of backtest."""

    history: HistoryPath = None
    cuts: Annotated[
        Annotated[list[Annotated[date, BeforeValidator(read_day)]], Field(min_length=1, max_length=200)] | None,
        Field(description='a list of 1 to 200 days, e.g. ["2024-01-30"]'),
    ] = None
    seed: Seed = 1

    @property
    def history_path(self) -> Path | None:
        """The table of patching, if it is not the store that is asked."""
        return Path(self.history) if self.history else None

    @property
    def files(self) -> dict[str, Path]:
        """The files that the answer depends on beside the store and the catalogue, by their use."""
        return {"history": self.history_path} if self.history_path else {}


class AskedExport(AskedPolicy):
    """Parameters of 06_export; the baseline is the policy in force, `run` is set by a report."""

    baseline: Baseline = None
    out: Annotated[str | None, Field(description="the path of a folder")] = None
    override: Annotated[str | None, Field(description="the reason why guardrails may be broken, as text")] = None
    revision: Annotated[int, Field(ge=0, le=99, description="a whole number from 0 to 99")] = 0
    run: Annotated[str | None, Field(description="the run of a report that chose the policy, as text")] = None

    @property
    def in_force(self) -> str:
        """The policy that the export takes over from: what it names as its baseline, unless one is given."""
        return shipped.load_policy(self.policy).baseline if self.baseline is None else self.baseline

    @property
    def compared(self) -> list[str]:
        """The policies to replay: the one in force, if there is one, and the one to export."""
        return [self.policy] if self.in_force in (NO_POLICY, self.policy) else [self.in_force, self.policy]

    @property
    def policy_names(self) -> tuple[str, ...]:
        """The policies that the notebook reads."""
        return tuple(self.compared)

    @model_validator(mode="after")
    def _with_policy_in_force(self) -> Self:
        if self.in_force != NO_POLICY:
            loads(shipped.load_policy)(self.in_force)
        return self

    @property
    def order(self) -> Order:
        """Where the export goes."""
        name = shipped.load_policy(self.policy).name
        out = Path(self.out) if self.out else PROJECT / "reports" / "exports" / name
        return Order(out=out, override=self.override, revision=self.revision, run=self.run)


MODELS: Final[Mapping[str, type[Asked]]] = {
    "00_explore": AskedExplore,
    "01_fleet": AskedFleet,
    "02_policy": AskedPolicy,
    "03_replay": AskedReplay,
    "04_rollout": AskedRollout,
    "05_compare": AskedCompare,
    "06_export": AskedExport,
    "backtest": AskedBacktest,
    "frontier": AskedFrontier,
    "weekly": AskedWeekly,
}


def check_parameters(name: str, values: Mapping[str, Any]) -> Asked:
    """Check the parameters of a notebook and give them as its model; problems are a ParameterError, a line each.

    A notebook passes its globals(): of these its parameters count, and what papermill was told to set.

    >>> check_parameters("03_replay", {"policies": ["gentler"]}).policy_names
    ('ninety-days', 'gentler')
    >>> check_parameters("03_replay", {"polices": ["gentler"]})
    Traceback (most recent call last):
    enforcement.report_parameters.ParameterError: 03_replay: no parameter 'polices' (did you mean policies?)
    """
    model = model_of(name)
    known = model.model_fields
    given = _of_notebook(values, known) if "__builtins__" in values else values
    unknown = [
        f"{name}: no parameter {as_shown(key)} ({_nearest(key, list(known))})" for key in given if key not in known
    ]
    if unknown:
        raise ParameterError(unknown)
    try:
        return model.model_validate(dict(given))
    except ValidationError as error:
        raise ParameterError(list(dict.fromkeys(_problems(name, model, given, error)))) from None


def model_of(name: str) -> type[Asked]:
    """Give the parameters that a notebook has."""
    if name not in MODELS:
        raise LookupError(f"no notebook {as_shown(name)} (expected one of {', '.join(MODELS)})")
    return MODELS[name]


def parse_parameters(name: str, texts: Mapping[str, str]) -> dict[str, Any]:
    """Read parameters written in a command line, each as YAML; what should be a text stays one."""
    import yaml  # noqa: PLC0415 - only a report that is asked for something needs it

    known = model_of(name).model_fields
    read: dict[str, Any] = {}
    for key, text in texts.items():
        if key in known and known[key].annotation in (str, str | None):
            read[key] = text
            continue
        try:
            read[key] = yaml.safe_load(text)
        except ValueError:  # what looks like a day and is none: what was expected is said with the parameter
            read[key] = text
        except yaml.YAMLError as error:
            what = str(getattr(error, "problem", None) or error)
            raise ParameterError(
                [f"{name}: {as_shown(key)[1:-1]} = {as_shown(text)}: {what} (expected YAML)"]
            ) from None
    return read


def _of_notebook(values: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Take from a notebook's names its parameters, and what papermill set though it is none."""
    set_by_papermill = {
        target.id: values.get(target.id)
        for cell in values.get("In", ())
        if cell.lstrip().startswith(_INJECTED)
        for statement in ast.parse(cell).body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }
    return set_by_papermill | {
        key: values[key] for key in known if key in values and not isinstance(values[key], ModuleType)
    }


def _problems(name: str, model: type[Asked], given: Mapping[str, Any], error: ValidationError) -> list[str]:
    problems = []
    for each in error.errors(include_url=False):
        key = str(each["loc"][0]) if each["loc"] else ""
        reason = str(each.get("ctx", {}).get("error", "")) if each["type"] == "value_error" else ""
        if not key:
            problems += [f"{name}: {line}" for line in reason.splitlines()]
            continue
        expected = model.model_fields[key].description or "another value"
        for line in reason.splitlines() or [""]:
            said = f": {line}" if line else f" (expected {expected})"
            problems.append(f"{name}: {key} = {as_shown(given.get(key))}{said}")
    return problems


def _nearest(key: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"


def policies_of(asked: Asked) -> list[Policy]:
    """Load the policies that a notebook reads, for its record."""
    return [shipped.load_policy(name) for name in asked.policy_names]
