"""What is supposed about senders: an assumptions file, every value with a source or the word "guess"."""

import tomllib
from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from enforcement.verdict import Sender

_LONGEST_PATIENCE_HOURS = 24 * 30


def _is_filled(text: str) -> str:
    if not text.strip():
        raise ValueError("expected a source, or the word guess")
    return text


class SenderAssumption(BaseModel):
    """How a share of the senders tries again, and where that is from."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Annotated[str, Field(min_length=1, max_length=100)]
    share: Annotated[float, Field(gt=0, le=1)]
    retry_minutes: Annotated[tuple[Annotated[int, Field(ge=1, le=1440)], ...], Field(min_length=1, strict=False)]
    gives_up_after_hours: Annotated[float, Field(gt=0, le=_LONGEST_PATIENCE_HOURS)]
    source: Annotated[str, AfterValidator(_is_filled)]

    @property
    def is_guess(self) -> bool:
        """Whether the file calls this a guess."""
        return "guess" in self.source.lower()


class Assumptions(BaseModel):
    """The assumptions file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    senders: Annotated[tuple[SenderAssumption, ...], Field(min_length=1, strict=False)]

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        total = sum(sender.share for sender in self.senders)
        if abs(total - 1) > 1e-9:  # decimals are rounded in binary
            raise ValueError(f"the shares of senders add up to {total:g} (expected 1)")
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


def parse_assumptions(text: str, *, source: str) -> Assumptions:
    """Read an assumptions file; errors name file, key and what was expected, a line each.

    >>> parse_assumptions("senders = []", source="mine.toml")
    Traceback (most recent call last):
    ValueError: mine.toml: senders: Tuple should have at least 1 item after validation, not 0
    """
    try:
        return Assumptions.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{source}: not TOML: {error}") from None
    except ValidationError as error:
        problems = (
            f"{source}: {'.'.join(str(part) for part in problem['loc']) or 'file'}: "
            f"{problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors()
        )
        raise ValueError("\n".join(problems)) from None
