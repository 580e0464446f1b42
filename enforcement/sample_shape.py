"""The shape of the made-up fleet: the figures that a sample is drawn from, each with a source in the file."""

import tomllib
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Self, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from enforcement.builds import Build
from enforcement.catalogue import PRODUCTS
from enforcement.names import shown
from enforcement.received import Route

_MOST_PER_WEEK = 10.0  # more often than daily is no rate of patching


def _adds_up(shares: Mapping[str, float]) -> Mapping[str, float]:
    if abs(sum(shares.values()) - 1) > 1e-9:  # decimals are rounded in binary
        raise ValueError(f"the shares add up to {sum(shares.values()):g} (expected 1)")
    return shares


def _are_products(shares: Mapping[str, float]) -> Mapping[str, float]:
    for name in shares:
        if name not in PRODUCTS:
            raise ValueError(f"unknown product {shown(name)} (known: {', '.join(PRODUCTS)})")
    return shares


def _are_routes(shares: Mapping[str, float]) -> Mapping[str, float]:
    for name in shares:
        if name not in tuple(Route):
            raise ValueError(f"unknown route {shown(name)} (known: {', '.join(Route)})")
    return shares


def _is_build(text: str) -> str:
    return str(Build.parse(text))


Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Rate: TypeAlias = Annotated[float, Field(ge=0, le=_MOST_PER_WEEK)]
BuildText: TypeAlias = Annotated[str, AfterValidator(_is_build)]
Weights: TypeAlias = tuple[Annotated[float, Field(gt=0)], ...]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ProductMix(_Section):
    """Which products and update lines the servers run."""

    shares: Annotated[dict[str, Share], AfterValidator(_adds_up), AfterValidator(_are_products)]
    own_choice_share: Share
    extended_share: Share
    one_line_behind_share: Share


class Patching(_Section):
    """How soon servers patch: rates per week, each from a week on."""

    missing_from_week: tuple[float, ...]
    missing_per_week: tuple[Annotated[float, Field(gt=0, le=_MOST_PER_WEEK)], ...]
    unsupported_from_week: tuple[float, ...]
    unsupported_per_week: tuple[Annotated[float, Field(gt=0, le=_MOST_PER_WEEK)], ...]
    tenant_shape: Annotated[float, Field(gt=0)]
    never_share: Share
    behind_after_change_share: Share
    behind_mean_days: Annotated[float, Field(ge=0)]

    @model_validator(mode="after")
    def _rates_have_weeks(self) -> Self:
        for weeks, rates in (
            (self.missing_from_week, self.missing_per_week),
            (self.unsupported_from_week, self.unsupported_per_week),
        ):
            rises = all(earlier < later for earlier, later in pairwise(weeks))
            if len(weeks) != len(rates) or weeks[:1] != (0,) or not rises:
                raise ValueError(f"weeks {weeks} for {len(rates)} rates (expected as many, rising from 0)")
        return self


class Lives(_Section):
    """What else happens to servers."""

    upgrade_per_week: Annotated[dict[str, Rate], AfterValidator(_are_products)]
    upgrade_to_2016_share: Share
    retire_unsupported_per_week: Rate
    retire_supported_per_week: Rate
    new_share: Share
    regress_share: Share
    regress_most_days: Annotated[int, Field(ge=1, le=1000)]
    hides_two_share: Share
    hidden_volume_share: Share


class Zone(_Section):
    """A time zone and the share of tenants in it."""

    utc_offset_minutes: Annotated[int, Field(gt=-1440, lt=1440)]
    share: Share


def _zones_add_up(zones: tuple[Zone, ...]) -> tuple[Zone, ...]:
    _adds_up({str(at): zone.share for at, zone in enumerate(zones)})
    return zones


class TenantShape(_Section):
    """How large the tenants are, and where."""

    size_exponent: Annotated[float, Field(gt=1)]
    largest_size: Annotated[int, Field(ge=1)]
    volume_exponent: Annotated[float, Field(gt=1)]
    largest_to_smallest: Annotated[float, Field(ge=1)]
    zones: Annotated[tuple[Zone, ...], AfterValidator(_zones_add_up)]


class Rhythm(_Section):
    """When in the week and the day mail is sent, in local time; Monday and midnight first."""

    weekday_weights: Annotated[Weights, Field(min_length=7, max_length=7)]
    hour_weights: Annotated[Weights, Field(min_length=24, max_length=24)]
    batch_share: Share


class RouteMix(_Section):
    """How hand-overs reach the service."""

    shares: Annotated[dict[str, Share], AfterValidator(_adds_up), AfterValidator(_are_routes)]
    other_share: Share


class HeaderIds(_Section):
    """What headers show where it is not the release's own number."""

    smtp: tuple[BuildText, ...]
    mapi: tuple[BuildText, ...]
    between_share: Share
    unknown: Annotated[tuple[str, ...], Field(min_length=1)]
    unknown_share: Share
    newer_share: Share
    mapi_share: Share
    mapi_hops_per_message: Annotated[float, Field(ge=0)]


class Shape(_Section):
    """The file of the sample's figures."""

    products: ProductMix
    patching: Patching
    lives: Lives
    tenants: TenantShape
    rhythm: Rhythm
    routes: RouteMix
    ids: HeaderIds


def parse_shape(text: str, *, source: str) -> Shape:
    r"""Read the sample's figures from TOML; errors name file, key and what was expected, a line each.

    >>> parse_shape("[products]\nshares = {}", source="mine.toml")
    Traceback (most recent call last):
    ValueError: mine.toml: products.shares: the shares add up to 0 (expected 1)
    ...
    """
    try:
        return Shape.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{source}: not TOML: {error}") from None
    except ValidationError as error:
        problems = (
            f"{source}: {'.'.join(map(str, problem['loc']))}: {problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors()
        )
        raise ValueError("\n".join(problems)) from None
