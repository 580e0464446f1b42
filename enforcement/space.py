"""A family of policies: a base policy, and the values that stages, cohort starts, pauses and notices may take."""

from collections.abc import Sequence
from datetime import date
from functools import cache
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError, WithJsonSchema, model_validator

from enforcement.names import shown
from enforcement.policy import MOST_DAYS
from enforcement.policy_problems import problem_line
from enforcement.policy_text import read_toml, without_null
from enforcement.policy_values import FIRST_DAY, LAST_DAY, Name, Share, problem

_MOST_VALUES: Final = 1_000  # of one choice
_MOST_MOVED: Final = 8  # stages in any order: 40,320 orders
_MOST_SHOWN: Final = 20


def _numbers(low: int, high: int) -> PlainValidator:
    words = f"a whole number from {low} to {high}, a list of them, or {{ from = {low}, to = {high}, step = 1 }}"

    def read(value: object) -> tuple[int, ...]:
        found: Sequence[object] = value if isinstance(value, list | tuple) else [value]
        if isinstance(value, dict):
            ends = [value.get("from"), value.get("to"), value.get("step", 1)]
            is_range = set(value) <= {"from", "to", "step"} and all(type(each) is int for each in ends)
            if not is_range or ends[2] < 1 or not low <= ends[0] <= ends[1] <= high:
                raise problem(f"expected {words}")
            found = range(ends[0], ends[1] + 1, ends[2])
        if not 1 <= len(found) <= _MOST_VALUES or not all(type(each) is int and low <= each <= high for each in found):
            raise problem(f"expected {words}")
        return _each_once(found)

    return PlainValidator(read)


def _days(value: object) -> tuple[date, ...]:
    found: Sequence[object] = value if isinstance(value, list | tuple) else [value]
    if not 1 <= len(found) <= _MOST_VALUES or not all(
        type(each) is date and FIRST_DAY <= each <= LAST_DAY for each in found
    ):
        raise problem(f"expected a date without quotes from {FIRST_DAY} to {LAST_DAY}, or a list of dates")
    return _each_once(found)


def _each_once(found: Sequence[Any]) -> tuple[Any, ...]:
    if len(set(found)) < len(found):
        raise problem("expected each value once")
    return tuple(found)


_ANY: Final = WithJsonSchema({"type": "object"})
StageDays = Annotated[tuple[int, ...], _numbers(1, MOST_DAYS), _ANY]
Minutes = Annotated[tuple[int, ...], _numbers(0, 60), _ANY]
YearDays = Annotated[tuple[int, ...], _numbers(0, 366), _ANY]
NoticeDays = Annotated[tuple[int, ...], _numbers(0, 3_660), _ANY]
Starts = Annotated[tuple[date, ...], PlainValidator(_days), _ANY]
_DaysBound = Annotated[int, Field(ge=0, le=MOST_DAYS)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class StageChoice(_Part):
    """A stage of the family: each key has one value, or several; an optional one may be left out."""

    days: StageDays | None = None
    throttle: Minutes = (0,)
    block: Minutes = (0,)
    optional: bool = False


class Bounds(_Part):
    """What a candidate must keep on the expected path; shares are of all mail of the fleet in sight.

    The days are on a server's clock, until a stage throttles or blocks, and until one blocks.
    """

    lost_share_of_mail: Share | None = None
    delayed_share_of_mail: Share | None = None
    lost_share_of_a_week: Share | None = None
    delayed_share_of_a_week: Share | None = None
    days_before_throttle: _DaysBound = 0
    days_before_block: _DaysBound = 0


class Space(_Part):
    """The space file: a base policy, what may differ from it, and the bounds that all candidates keep."""

    base: Annotated[str, Field(min_length=1, max_length=500)]
    stages: Annotated[tuple[StageChoice, ...], Field(min_length=1, max_length=50, strict=False)] | None = None
    any_order: bool = False
    minutes_may_fall: bool = False
    cohorts: Annotated[dict[Name, Starts], Field(max_length=200)] = {}
    pause_days_per_year: YearDays | None = None
    targeted_notice_days: NoticeDays | None = None
    bounds: Bounds = Bounds()

    @model_validator(mode="after")
    def _only_the_last_without_days(self) -> Self:
        for index, stage in enumerate(self.stages[:-1] if self.stages else ()):
            if stage.days is None:
                raise problem("missing (only the last stage has no days)", "stages", index, "days")
        if self.stages and self.stages[-1].days is not None:
            raise problem("expected none: the last stage has no end", "stages", len(self.stages) - 1, "days")
        if self.stages and self.stages[-1].optional:
            raise problem("expected false: the last stage is always there", "stages", len(self.stages) - 1, "optional")
        if self.any_order and (self.stages is None or len(self.stages) > _MOST_MOVED + 1):
            raise problem(f"expected at most {_MOST_MOVED + 1} stages of the space to be in any order", "any_order")
        return self


def parse_space(text: str, *, source: str) -> Space:
    """Read a space file; errors name file, key, what was found and what was expected, a line each.

    >>> text = 'base = "ninety-days"' + chr(10)
    >>> parse_space(text + "stages = [{ days = [7, 14] }, { block = 60 }]", source="s.toml").stages[0].days
    (7, 14)
    >>> parse_space(text + "bonds = 1", source="s.toml")
    Traceback (most recent call last):
    ValueError: s.toml: bonds: unknown key (did you mean 'bounds'?)
    """
    source = shown(source)[1:-1]
    try:
        data = read_toml(text)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    try:
        return Space.model_validate(data)
    except ValidationError as error:
        found = [each for each in error.errors(include_url=False) if each["type"] != "too_short" or not each["input"]]
    problems = [f"{source}: {problem_line(each, data=data, schema=_schema())}" for each in found[:_MOST_SHOWN]]
    if len(found) > _MOST_SHOWN:
        problems.append(f"{source}: shown {_MOST_SHOWN} of {len(found)} problems")
    raise ValueError("\n".join(problems))


@cache
def _schema() -> dict[str, Any]:
    return without_null(Space.model_json_schema())
