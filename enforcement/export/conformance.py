"""Whether a target says what the model says: vectors in, each answer compared, the differences out."""

import ipaddress
import json
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from enforcement.export.rego import address_bits
from enforcement.export.target import Reason, direct_hand_over
from enforcement.names import shown

VECTORS_NAME: Final = "vectors.jsonl"
COMPARED: Final = ("verdict", "code", "enhanced_code", "text", "reason", "stage")
_STRIDE: Final = 37  # no part of an hour's 120 cases
_T = TypeVar("_T")
_STRICT: Final = ConfigDict(frozen=True, strict=True, extra="ignore")


class Answer(BaseModel):
    """What a target says. A target that cannot tell a reason or a stage leaves them out; they are not compared."""

    model_config = _STRICT
    verdict: str
    code: int | None = None
    enhanced_code: str | None = None
    text: str | None = None
    reason: str | None = None
    stage: int | None = None


class Vector(BaseModel):
    """What a peer sends and when, and what it must be answered."""

    model_config = _STRICT
    id: int
    at: Annotated[datetime, Field(strict=False)]
    received: Annotated[tuple[str, ...], Field(strict=False)]
    ip: str
    certificate: str | None = None
    server: str | None = None
    build: str | None = None
    direct: bool
    expect: Answer

    @property
    def seconds(self) -> int:
        """The time in seconds since 1970, UTC."""
        return int(self.at.timestamp())

    @property
    def hand_over(self) -> str:
        """What the topmost line is, in the words of the Rego policy's input."""
        found = direct_hand_over(self.received)
        return str(found) if isinstance(found, Reason) else "direct"


class Running(Protocol):
    """A target that runs."""

    def answers(self, vectors: Sequence[Vector]) -> Iterable[Answer]:
        """Answer each vector, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Something that decides: its name, how it is started on an export's folder, and which vectors it can be asked."""

    name: str
    start: Callable[[Path], AbstractContextManager[Running]]
    takes: Callable[[Vector], bool] = lambda _: True
    at_most: int | None = None  # more would take too long: then as many, spread over all


@dataclass(frozen=True, slots=True)
class Difference:
    """An answer that is not the one expected."""

    vector: Vector
    got: Answer | None

    @property
    def fields(self) -> dict[str, tuple[Any, Any]]:
        """What was expected and what was answered, where the two differ."""
        return differing(self.vector.expect, self.got)


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How a target did: the cases it was asked, those it cannot be asked, and those that it answered otherwise."""

    target: str
    n_asked: int
    n_left_out: int
    differences: tuple[Difference, ...]

    @property
    def n_agree(self) -> int:
        """How many answers are the ones expected."""
        return self.n_asked - len(self.differences)


def read_vectors(content: bytes) -> list[Vector]:
    """Read vectors.jsonl, or say in a ValueError which line is none.

    >>> read_vectors(b"{}")
    Traceback (most recent call last):
    ValueError: vectors.jsonl line 1: id: Field required
    """
    found = []
    for number, text in enumerate(content.split(b"\n"), start=1):
        if text.strip():
            try:
                found.append(Vector.model_validate_json(text))
            except ValidationError as error:
                raise ValueError(f"{VECTORS_NAME} line {number}: {_first_problem(error)}") from None
    if not found:
        raise ValueError(f"{VECTORS_NAME} holds no vector (expected a JSON object a line)")
    return found


def read_answer(text: str | bytes) -> Answer:
    """Read the answer of a program, a JSON object.

    >>> read_answer('{"verdict": "accept"}').verdict
    'accept'
    """
    try:
        return Answer.model_validate_json(text)
    except ValidationError as error:
        said = text.decode(errors="replace") if isinstance(text, bytes) else text
        raise ValueError(f"not an answer: {shown(said)}: {_first_problem(error)}") from None


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the line'}: {first['msg']}"


def differing(expected: Answer, got: Answer | None) -> dict[str, tuple[Any, Any]]:
    """Name the fields in which an answer differs; a reason or a stage that the target does not tell is none.

    >>> differing(Answer(verdict="accept", reason="expired"), Answer(verdict="accept"))
    {}
    """
    if got is None:
        return {"verdict": (expected.verdict, None)}
    silent = {"reason", "stage"} if got.reason is None else set()
    return {
        name: (getattr(expected, name), getattr(got, name))
        for name in COMPARED
        if name not in silent and getattr(expected, name) != getattr(got, name)
    }


def conform(target: Target, folder: Path, vectors: Sequence[Vector], limit: int | None = None) -> Agreement:
    """Start a target on an export's folder, ask it the vectors, and compare its answers."""
    asked = spread([vector for vector in vectors if target.takes(vector)], limit or target.at_most, _kind)
    with target.start(folder) as running:
        got: list[Answer | None] = [*running.answers(asked)]
    if len(got) > len(asked):
        raise ValueError(f"{target.name} gave {len(got)} answers to {len(asked)} vectors (expected one each)")
    got += [None] * (len(asked) - len(got))
    differences = tuple(
        Difference(vector, answer)
        for vector, answer in zip(asked, got, strict=True)
        if differing(vector.expect, answer)
    )
    return Agreement(
        target=target.name, n_asked=len(asked), n_left_out=len(vectors) - len(asked), differences=differences
    )


def spread(vectors: Sequence[_T], at_most: int | None, kind: Callable[[_T], Hashable] = lambda _: None) -> Sequence[_T]:
    """Take so many of the vectors: of each kind about as many, or all there are, spread over those of the kind.

    >>> spread(range(10), 4)
    [0, 2, 5, 7]
    >>> spread([*range(100), "rare"], 3, kind=type)
    [37, 87, 'rare']
    """
    if at_most is None or len(vectors) <= at_most:
        return vectors
    of_kind: dict[Hashable, list[int]] = {}
    for place, vector in enumerate(vectors):
        of_kind.setdefault(kind(vector), []).append(place)
    taken: list[int] = []
    left = at_most
    fewest_first = sorted(of_kind.values(), key=len)
    for number, places in enumerate(fewest_first):
        share = min(len(places), left // (len(fewest_first) - number))
        left -= share
        # Kinds begin at places of their own: else all would be asked at the same minutes.
        begin = number * _STRIDE
        taken += (places[(begin + index * len(places) // share) % len(places)] for index in range(share))
    return [vectors[place] for place in sorted(taken)]


def _kind(vector: Vector) -> Hashable:
    """Tell vectors apart but for the time of their day: who sends what."""
    top = vector.received[0].partition(";")[0] if vector.received else ""
    return top, len(vector.received), vector.ip, vector.certificate, vector.at.date()


def rego_input(vector: Vector) -> dict[str, Any]:
    """Give a vector as the input that the Rego policy asks for."""
    address = ipaddress.ip_address(vector.ip)
    return {
        "day": f"{vector.at:%Y-%m-%d}",
        "minute": vector.at.minute,
        "hand_over": vector.hand_over,
        "server": vector.server or "",
        "build": vector.build or "",
        "address": str(address),
        "address_bits": address_bits(address),
        "certificate": vector.certificate or "",
    }


def answer_of(decision: Mapping[str, Any]) -> Answer:
    """Read what a Rego policy decides."""
    return read_answer(json.dumps(dict(decision)))


def answer_of_reply(code: int, text: str) -> Answer:
    """Read an SMTP reply, its lines joined, as an answer.

    >>> answer_of_reply(450, "4.7.230 later").enhanced_code
    '4.7.230'
    """
    if code == 250:
        return Answer(verdict="accept")
    enhanced_code = text.split(" ", 1)[0]
    return Answer(
        verdict="reject" if code >= 500 else "defer", code=code, enhanced_code=enhanced_code, text=f"{code} {text}"
    )
