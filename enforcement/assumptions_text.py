"""The text of an assumptions file: the same assumptions are always the same text, and read back the same."""

import json
from collections.abc import Iterator

from pydantic import BaseModel

from enforcement.assumptions import OFF, Assumptions


def assumptions_text(assumptions: Assumptions, *, heading: str = "") -> str:
    """Write an assumptions file.

    >>> from enforcement.assumptions import parse_assumptions
    >>> text = 'senders = [{name = "x", share = 1, retry_minutes = [15], gives_up_after_hours = 48, source = "guess"}]'
    >>> assumed = parse_assumptions(text, source="mine.toml")
    >>> parse_assumptions(assumptions_text(assumed, heading="Mine."), source="again.toml") == assumed
    True
    """
    comments = [f"# {line}".rstrip() for line in heading.splitlines()]
    return "\n".join([*comments, *_top(assumptions), *_tables(assumptions)]) + "\n"


def _top(assumptions: Assumptions) -> Iterator[str]:
    """Write what stands above the tables: TOML has no way back from a table."""
    for name in type(assumptions).model_fields:
        value = getattr(assumptions, name)
        if name in assumptions.off:
            yield f'{name} = "{OFF}"'
        elif name != OFF and value is not None and (_is_inline(value) or name == "senders"):
            yield f"{name} = {_value(value)}"


def _tables(assumptions: Assumptions) -> Iterator[str]:
    for name in type(assumptions).model_fields:
        value = getattr(assumptions, name)
        if isinstance(value, tuple) and name == "updates":
            for each in value:
                yield from ("", f"[[{name}]]", *_keys(each))
        elif isinstance(value, BaseModel) and not _is_inline(value):
            off = [key.split(".")[1] for key in assumptions.off if key.startswith(f"{name}.")]
            yield from ("", f"[{name}]", *_keys(value), *(f'{key} = "{OFF}"' for key in off))


def _keys(part: BaseModel) -> Iterator[str]:
    for name in type(part).model_fields:
        value = getattr(part, name)
        if value is not None:
            yield f"{name} = {_value(value)}"


def _is_inline(value: object) -> bool:
    """Whether a value fits a line: a number with its source."""
    return isinstance(value, BaseModel) and "source" in type(value).model_fields


def _value(value: object) -> str:
    if isinstance(value, BaseModel):
        return f"{{ {', '.join(_keys(value))} }}"
    if isinstance(value, tuple):
        if value and isinstance(value[0], BaseModel):
            return "[\n" + "".join(f"  {_value(each)},\n" for each in value) + "]"
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)  # a TOML basic string has the same escapes
    if isinstance(value, float):
        return repr(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return str(value)
