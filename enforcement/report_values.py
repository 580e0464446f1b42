"""The kinds of values that parameters of notebooks take: how each is read, and what is expected of it."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field

from enforcement import shipped
from enforcement.forecasts import MOST_DAYS, MOST_DRAWS
from enforcement.policy import NO_POLICY

PROJECT: Final = shipped.DATA.parent
_LONGEST_SHOWN: Final = 80


def read_day(value: object) -> object:
    """Read a day: an ISO date, today or yesterday."""
    if not isinstance(value, str):
        return value
    if value in ("today", "yesterday"):
        return datetime.now(tz=UTC).date() - timedelta(days=value == "yesterday")
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise ValueError from None  # what was expected is said with the parameter


def loads(load: Callable[[str], object]) -> Callable[[str], str]:
    """Make a check out of something that loads: what it cannot load is no value."""

    def check(value: str) -> str:
        try:
            load(value)
        except OSError as error:
            raise ValueError(error.strerror) from None
        except LookupError as error:
            raise ValueError(str(error)) from None
        return value

    return check


def _a_table(columns: str) -> Callable[[str], str]:
    """Make a check out of what a CSV file holds: there must be a file."""

    def check(value: str) -> str:
        if not Path(value).is_file():
            raise ValueError(f"no such file (expected the path of a CSV file {columns})")
        return value

    return check


def found(name: str) -> Path:
    """Give a path as it is from here, or from the project's folder, where notebooks are not."""
    path = Path(name)
    return path if path.exists() or not (PROJECT / path).exists() else PROJECT / path


def _space(name: str) -> str:
    if not found(name).is_file():
        raise ValueError(f"no such file (expected {SPACE})")
    return name


def _policy_or_none(name: str | None) -> str | None:
    return name if name in (None, NO_POLICY) else loads(shipped.load_policy)(name)


SPACE: Final = "the path of a TOML file that names a family of schedules"
POLICY: Final = "a policy: a shipped name, or the path of a TOML file"
_A_DAY: Final = "a day, e.g. 2026-10-31, today or yesterday"
PolicyName = Annotated[str, AfterValidator(loads(shipped.load_policy))]
Day = Annotated[date | None, BeforeValidator(read_day), Field(description=_A_DAY)]
AssumptionsName = Annotated[
    str,
    AfterValidator(loads(shipped.load_assumptions)),
    Field(description="assumptions: a shipped name, or the path of a TOML file"),
]
PausesPath = Annotated[
    Annotated[str, AfterValidator(_a_table("tenant,from,days"))] | None,
    Field(description="the path of a CSV file tenant,from,days"),
]
_PATCHING: Final = "server,tenant,build,first_seen_at,last_seen_at,messages"
HistoryPath = Annotated[
    Annotated[str, AfterValidator(_a_table(_PATCHING))] | None,
    Field(description=f"the path of a CSV file {_PATCHING}"),
]

Policies = Annotated[
    list[PolicyName],
    Field(min_length=1, max_length=12, description=f"a list of 1 to 12 policies, each {POLICY.partition(': ')[2]}"),
]
Baseline = Annotated[str | None, AfterValidator(_policy_or_none), Field(description=f"{NO_POLICY}, or {POLICY}")]
HorizonDays = Annotated[int, Field(ge=1, le=MOST_DAYS, description=f"a whole number of days from 1 to {MOST_DAYS}")]
Draws = Annotated[int, Field(ge=1, le=MOST_DRAWS, description=f"a whole number from 1 to {MOST_DRAWS}")]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1, description="a whole number from 0")]
SpacePath = Annotated[str, AfterValidator(_space), Field(description=SPACE)]


def as_shown(value: object) -> str:
    """Write a value of a parameter for a message: at most 80 letters, nothing that steers a terminal."""
    text = repr(value) if isinstance(value, str) else str(value)
    text = text if text.isprintable() else repr(text)[1:-1]
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"
