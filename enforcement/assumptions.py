"""What is supposed about administrators and senders: a file, every number with a source or the word "guess"."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, Final, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.json_schema import SkipJsonSchema

from enforcement.assumption_values import Cell, Correlation, Days, Factor, Figure, Shape, Share, Source, is_guess
from enforcement.names import shown
from enforcement.policy_problems import problem_line
from enforcement.policy_text import read_toml, without_null
from enforcement.policy_values import Day, Name, problem
from enforcement.schema import day_number
from enforcement.verdict import Sender

_LONGEST_PATIENCE_HOURS: Final = 24 * 30
_MOST_SHOWN: Final = 20
OFF: Final = "off"

# What may be "off", said explicitly: sections, and single multipliers.
_SECTIONS: Final = ("hazards", "retirement", "factors", "multipliers", "pauses", "updates")
_MULTIPLIERS: Final = ("tenant_shape", "tenant_half_year_shape", "common_half_year_shape")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class SenderAssumption(_Part):
    """How a share of the senders tries again, and where that is from."""

    name: Name
    share: Annotated[float, Field(gt=0, le=1)]
    retry_minutes: Annotated[tuple[Annotated[int, Field(ge=1, le=1440)], ...], Field(min_length=1, strict=False)]
    gives_up_after_hours: Annotated[float, Field(gt=0, le=_LONGEST_PATIENCE_HOURS)]
    source: Source

    @property
    def is_guess(self) -> bool:
        """Whether the file calls this a guess."""
        return is_guess(self.source)


class Rates(_Part):
    """Rates by weeks since the first missing update, and out of support by weeks since the end of support.

    rate_correlation: how alike the rates are off their values, all of the section together; None: each by itself.
    """

    supported: Annotated[tuple[Cell, ...], Field(min_length=1, max_length=50, strict=False)]
    unsupported: Annotated[tuple[Cell, ...], Field(min_length=1, max_length=50, strict=False)]

    rate_correlation: Correlation | None = None

    @model_validator(mode="after")
    def _rises_from_0(self) -> Self:
        for state in ("supported", "unsupported"):
            cells = getattr(self, state)
            if cells[0].from_weeks:
                raise problem("expected 0 in the first cell", state, 0, "from_weeks")
            for index, (lower, upper) in enumerate(pairwise(cells), start=1):
                if upper.from_weeks <= lower.from_weeks:
                    raise problem(f"expected more than {lower.from_weeks}", state, index, "from_weeks")
        return self


class Factors(_Part):
    """By how much more people act under what their server meets; under nothing it is 1."""

    noticed: Factor
    throttled: Factor
    partly_blocked: Factor
    fully_blocked: Factor

    @property
    def in_order(self) -> tuple[Figure, ...]:
        """The factors from the mildest to the hardest."""
        return self.noticed, self.throttled, self.partly_blocked, self.fully_blocked

    @model_validator(mode="after")
    def _never_falls(self) -> Self:
        names = tuple(type(self).model_fields)
        for (below, lower), (name, upper) in pairwise(zip(names, self.in_order, strict=True)):
            for key in ("low", "value", "high"):
                least, found = getattr(lower, key), getattr(upper, key)
                if least is not None and found is not None and found < least:
                    raise problem(f"expected at least {least:g}, as for {below}: factors do not fall", name, key)
        return self


class Multipliers(_Part):
    """Gamma shapes of multipliers of mean 1 (variance 1 / shape); None: off."""

    tenant_shape: Shape | None = None
    tenant_half_year_shape: Shape | None = None
    common_half_year_shape: Shape | None = None


class LandingAge(_Part):
    """The share of changes that land on a build whose first missing update is so old; 0: nothing is missing."""

    weeks: Annotated[int, Field(ge=0, le=1_000)]
    share: Annotated[float, Field(ge=0, le=1)]
    source: Source


class Landing(_Part):
    """Where those who act arrive."""

    ages: Annotated[tuple[LandingAge, ...], Field(min_length=1, max_length=200, strict=False)]
    supported_leave_product: Share
    unsupported_leave_product: Share  # the others stay out of support

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        for index, (lower, upper) in enumerate(pairwise(self.ages), start=1):
            if upper.weeks <= lower.weeks:
                raise problem(f"expected more than {lower.weeks}", "ages", index, "weeks")
        total = sum(age.share for age in self.ages)
        if abs(total - 1) > 1e-6:  # written with some decimals
            raise problem(f"the shares add up to {total:g} (expected 1)", "ages")
        return self


class PausesTaken(_Part):
    """The share of tenants that pause once they are throttled or blocked, and for how many days."""

    share_of_tenants: Share
    days: Days


class AssumedUpdate(_Part):
    """A security update to come."""

    date: Day
    source: Source


class Sourced(NamedTuple):
    """A number of the file: its key, its value, and where it is from."""

    key: str
    value: float
    source: str


class Assumptions(_Part):
    """The assumptions file. A section is None when the file lacks it or says that it is "off"; `off` tells which."""

    senders: Annotated[tuple[SenderAssumption, ...], Field(min_length=1, max_length=50, strict=False)]
    hazards: Rates | None = None
    retirement: Rates | None = None
    factors: Factors | None = None
    multipliers: Multipliers | None = None
    patience_correlation: Share | None = None
    never_responds: Share | None = None
    landing: Landing | None = None
    pauses: PausesTaken | None = None
    updates: Annotated[tuple[AssumedUpdate, ...], Field(min_length=1, max_length=1_000, strict=False)] | None = None
    updates_per_year: Figure | None = None
    off: SkipJsonSchema[tuple[str, ...]] = ()

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        total = sum(sender.share for sender in self.senders)
        if abs(total - 1) > 1e-9:  # decimals are rounded in binary
            raise problem(f"the shares of senders add up to {total:g} (expected 1)", "senders")
        if self.updates_per_year is not None and (self.updates is not None or "updates" in self.off):
            raise problem("expected either updates or updates_per_year", "updates_per_year")
        for name in _MULTIPLIERS if self.multipliers else ():
            if getattr(self.multipliers, name) is None and f"multipliers.{name}" not in self.off:
                raise problem('missing (expected a figure, or "off")', "multipliers", name)
        return self

    @property
    def sender_mix(self) -> Sequence[Sender]:
        """The senders as the verdict takes them."""
        return [
            Sender(
                name=sender.name,
                share=sender.share,
                retry_minutes=sender.retry_minutes,
                gives_up_after_hours=sender.gives_up_after_hours,
            )
            for sender in self.senders
        ]

    def expect_people(self, *, source: str) -> None:
        """Raise LookupError when the file says nothing of something that a forecast needs, not even that it is off."""
        keys = [*_SECTIONS[:-1], "landing", "patience_correlation", "never_responds"]
        missing = [key for key in keys if getattr(self, key) is None and key not in self.off]
        if self.updates is None and self.updates_per_year is None and "updates" not in self.off:
            missing.append("updates_per_year")
        if missing:
            raise LookupError(
                f"{source}: missing {', '.join(missing)} (a forecast needs them: copy them from default.toml,"
                f' or write e.g. hazards = "{OFF}"; landing and the shares cannot be off)'
            )

    def figures(self) -> dict[str, Figure]:
        """Give every number that has a range or could have one, by its key, e.g. hazards.supported[2]."""
        return dict(_figures("", self))

    def with_value(self, key: str, value: float) -> Self:
        """Give the same assumptions with another value, exact, of one figure.

        Factors do not fall: milder ones are lowered to that of a harder measure, harder ones raised.

        >>> parse_assumptions(_EXAMPLE, source="mine.toml").with_value("never_responds", 0.5).never_responds.value
        0.5
        """
        if key not in self.figures():
            raise LookupError(f"no figure {shown(key)} (known: {', '.join(self.figures())})")
        data = self.model_dump()
        *above, last = key.replace("[", ".").replace("]", "").split(".")
        part: Any = data
        for name in above:
            part[name] = list(part[name]) if isinstance(part[name], tuple) else part[name]
            part = part[name]
        if isinstance(part, list):
            bare = dict.fromkeys(("low", "high", "events", "server_weeks"))
            part[int(last)] = part[int(last)] | bare | {"rate_per_week": value}
        else:
            part[last] = {"value": value, "source": part[last]["source"]}
        if above == ["factors"]:
            names = list(part)
            for place, name in enumerate(names):
                bound = min if place < names.index(last) else max
                if (kept := bound(part[name]["value"], value)) != part[name]["value"]:
                    part[name] = {"value": kept, "source": part[name]["source"]}
        return type(self).model_validate(data)

    def sourced(self) -> list[Sourced]:
        """Give every number of the file with its source."""
        known = [Sourced(key, figure.value, figure.source) for key, figure in self.figures().items()]
        for index, sender in enumerate(self.senders):
            known.append(Sourced(f"senders[{index}]", sender.share, sender.source))
        for index, age in enumerate(self.landing.ages if self.landing else ()):
            known.append(Sourced(f"landing.ages[{index}]", age.share, age.source))
        for index, update in enumerate(self.updates or ()):
            known.append(Sourced(f"updates[{index}]", day_number(update.date), update.source))
        return known

    def guesses(self) -> list[Sourced]:
        """Give the numbers that are guesses."""
        return [each for each in self.sourced() if is_guess(each.source)]


def _figures(key: str, value: object) -> Iterator[tuple[str, Figure]]:
    if isinstance(value, Figure):
        yield key, value
    elif isinstance(value, Cell):
        yield key, value.figure
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _figures(f"{key}.{name}" if key else name, getattr(value, name))
    elif isinstance(value, tuple):
        for index, each in enumerate(value):
            yield from _figures(f"{key}[{index}]", each)


def parse_assumptions(text: str, *, source: str) -> Assumptions:
    """Read an assumptions file; errors name file, key, what was found and what was expected, a line each.

    >>> parse_assumptions('senders = []', source="mine.toml")
    Traceback (most recent call last):
    ValueError: mine.toml: senders: expected a list of at least 1 and at most 50
    >>> parse_assumptions(_EXAMPLE.replace("0.02", "-2"), source="mine.toml")
    Traceback (most recent call last):
    ValueError: mine.toml: never_responds.value = -2: expected 0 to 1000000000.0
    """
    source = shown(source)[1:-1]
    try:
        data = read_toml(text)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    if OFF in data:
        raise ValueError(f'{source}: off: unknown key (write e.g. hazards = "{OFF}")')
    switched, off = _without_off(data)
    try:
        return Assumptions.model_validate(switched | {OFF: off})
    except ValidationError as error:
        # A list whose parts are all wrong is not too short as well.
        found = [each for each in error.errors(include_url=False) if each["type"] != "too_short" or not each["input"]]
    problems = [f"{source}: {problem_line(each, data=data, schema=_schema())}" for each in found[:_MOST_SHOWN]]
    if len(found) > _MOST_SHOWN:
        problems.append(f"{source}: shown {_MOST_SHOWN} of {len(found)} problems")
    raise ValueError("\n".join(problems))


def _without_off(data: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Take out of the data what is said to be off, and name it."""
    off = [key for key in _SECTIONS if data.get(key) == OFF]
    kept = {key: value for key, value in data.items() if key not in off}
    inside = kept.get("multipliers")
    if isinstance(inside, dict):
        single = [name for name in _MULTIPLIERS if inside.get(name) == OFF]
        kept["multipliers"] = {name: value for name, value in inside.items() if name not in single}
        off += [f"multipliers.{name}" for name in single]
    return kept, tuple(off)


@cache
def _schema() -> dict[str, Any]:
    return without_null(Assumptions.model_json_schema())


_EXAMPLE: Final = """
senders = [{ name = "all", share = 1.0, retry_minutes = [15], gives_up_after_hours = 48, source = "guess" }]
never_responds = { value = 0.02, source = "guess" }
"""
