"""What a value in a policy file can be: names, days, minutes, shares, products, builds."""

from collections.abc import Callable
from datetime import date
from typing import Annotated, Final, TypeVar

from pydantic import AfterValidator, Field, PlainSerializer, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from enforcement.builds import Build
from enforcement.catalogue import PRODUCTS
from enforcement.names import server_name, tenant_name
from enforcement.when import when_expression

SLUG: Final = r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?$"
BUILD_NUMBER: Final = r"^\d{1,5}(\.\d{1,5}){3}$"
URL: Final = r"^https?://[!-~]+$"
SERVICE_NAME: Final = r"^[!-~]([ -~]{0,58}[!-~])?$"
FIRST_DAY: Final = date(1970, 1, 1)
LAST_DAY: Final = date(2999, 12, 31)

T = TypeVar("T")


def problem(message: str, *at: str | int) -> PydanticCustomError:
    """Say what is wrong with a value, or with what stands `at` these keys and indices inside it.

    >>> problem("expected a date", "until").message()
    'expected a date'
    """
    return PydanticCustomError("problem", "{message}", {"message": message, "at": at})


def by(check: Callable[[str], object], *, keep: bool = False) -> AfterValidator:
    """Hold a text to a function that raises ValueError; take what it gives, or keep the text.

    >>> from pydantic import TypeAdapter
    >>> str(TypeAdapter(Annotated[str, by(Build.parse)]).validate_python("15.01.2507.035"))
    '15.1.2507.35'
    """

    def checked(text: str) -> object:
        try:
            given = check(text)
        except ValueError as error:
            raise problem(str(error)) from None
        return text if keep else given

    return AfterValidator(checked)


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("expected printable characters in one line")
    return text


def _product(text: str) -> str:
    if text not in PRODUCTS:
        raise ValueError(text)
    return text


def _build(value: object) -> Build:
    return value if isinstance(value, Build) else Build.parse(value if isinstance(value, str) else "")


def distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    """Hold a list to having each value once.

    >>> distinct(("direct", "relayed"))
    ('direct', 'relayed')
    """
    seen: set[T] = set()
    for index, value in enumerate(values):
        if value in seen:
            raise problem("expected each one once", index)
        seen.add(value)
    return values


Slug = Annotated[str, Field(pattern=SLUG)]
Name = Annotated[str, Field(min_length=1, max_length=100), by(_printable)]
Text = Annotated[str, Field(max_length=500), by(_printable)]
Day = Annotated[date, Field(ge=FIRST_DAY, le=LAST_DAY)]
Days = Annotated[int, Field(ge=0, le=3_660)]
Minutes = Annotated[int, Field(ge=0, le=60)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Product = Annotated[str, AfterValidator(_product), WithJsonSchema({"type": "string", "enum": list(PRODUCTS)})]
Condition = Annotated[str, by(when_expression, keep=True)]
Tenant = Annotated[str, by(tenant_name)]
Server = Annotated[str, by(server_name)]
BuildNumber = Annotated[
    Build,
    PlainValidator(_build),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": BUILD_NUMBER}),
]
