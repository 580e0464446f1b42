"""What is wrong with a policy file, in words: which key, which value, what was expected."""

import re
from collections.abc import Mapping
from datetime import date, datetime, time
from difflib import get_close_matches
from typing import Any, Final, TypeAlias

from pydantic_core import ErrorDetails

from enforcement.names import shown
from enforcement.policy_values import BUILD_NUMBER, FIRST_DAY, LAST_DAY, SERVICE_NAME, SLUG, URL

Place: TypeAlias = tuple[str | int, ...]  # the keys and indices, from 0, that lead to a value
Node: TypeAlias = Mapping[str, Any]  # what the JSON Schema says of a value

_ABSENT: Final = object()
_BARE = re.compile(r"[A-Za-z0-9_-]{1,80}")

# What TOML can hold, in words, and where the schema takes it.
_KINDS: Final[Mapping[type, tuple[str, tuple[str, ...]]]] = {
    str: ("text", ("string",)),
    bool: ("a boolean", ("boolean",)),
    int: ("a whole number", ("integer", "number")),
    float: ("a number with decimals", ("number",)),
    date: ("a date", ("date",)),
    datetime: ("a date with a time", ()),
    time: ("a time", ()),
    list: ("a list", ("array",)),
    dict: ("a table", ("object",)),
}

# What the patterns of the schema ask for, in words.
_PATTERNS: Final = {
    SLUG: "letters, digits, '-', '_' and '.', at most 64, a letter or digit first and last",
    BUILD_NUMBER: "a build number in quotes, e.g. '15.2.1544.36'",
    URL: "an address of at most 500 characters that begins with https:// or http://",
    SERVICE_NAME: "at most 60 letters, digits, signs and spaces of ASCII",
}


def problem_line(error: ErrorDetails, *, data: Node, schema: Node) -> str:
    """Write an error that pydantic found in the data in our words; the schema says what was expected.

    >>> error = {"loc": ("stages",), "type": "missing", "msg": "", "input": {}}
    >>> schema = {"properties": {"stages": {"type": "array", "items": {"type": "object"}}}}
    >>> problem_line(error, data={}, schema=schema)
    'stages: missing (expected a list)'
    """
    place = place_of(error)
    match error["type"]:
        case "extra_forbidden":
            said = f": unknown key ({_key_hint(place, schema)})"
        case "missing":
            said = f": missing (expected {_expected(node_at(place, schema), in_full=True)})"
        case "problem":
            said = f"{_is(_found(data, place))}: {error['ctx']['message']}"
        case _:
            value = _found(data, place)
            said = f"{_is(value)}: {_other_than_expected(value, node_at(place, schema))}"
    return f"{_key(place)}{said}{_counted(place)}"


def place_of(error: ErrorDetails) -> Place:
    """Give the place of the value that an error is about.

    >>> place_of({"loc": ("stages",), "type": "problem", "msg": "", "input": {}, "ctx": {"at": (1, "days")}})
    ('stages', 1, 'days')
    """
    return (*error["loc"], *error.get("ctx", {}).get("at", ()))


def _key(place: Place) -> str:
    """Write where a value stands, as in stages[2].throttle."""
    written = ""
    for part in place:
        if isinstance(part, int):
            written += f"[{part}]"
        else:
            written += f"{'.' if written else ''}{part if _BARE.fullmatch(part) else shown(part)}"
    return written


def _counted(place: Place) -> str:
    """Say which stage, rule, … a place is in, counted from 1 as reports do."""
    match place:
        case (str(parts), int(index), *_):
            return f" ({parts.removesuffix('s').replace('_', ' ')} {index + 1})"
    return ""


def _found(data: Node, place: Place) -> object:
    """Look up the value at a place, if there is one."""
    value: Any = data
    for part in place:
        is_there = part in value if isinstance(value, dict) else isinstance(value, list) and isinstance(part, int)
        if not is_there:
            return _ABSENT
        value = value[part]
    return value


def _is(value: object) -> str:
    return "" if value is _ABSENT or isinstance(value, dict | list) else f" = {toml_value(value)}"


def node_at(place: Place, schema: Node) -> Node:
    """Look up what the schema says of the value at a place; empty: nothing.

    >>> node_at(("stages", 0), {"properties": {"stages": {"type": "array", "items": {"type": "object"}}}})
    {'type': 'object'}
    """
    node = schema
    for part in place:
        node = node.get("items", {}) if isinstance(part, int) else node.get("properties", {}).get(part, {})
        if "$ref" in node:
            node = {**schema["$defs"][node["$ref"].rpartition("/")[2]], **node}
    return node


def _other_than_expected(value: object, node: Node) -> str:
    kind, taken_as = _KINDS[type(value)]
    fits = node.get("format", node.get("type")) in taken_as
    near = get_close_matches(str(value), node.get("enum", ()), n=1) if isinstance(value, str) else []
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return f"expected {_expected(node, in_full=not fits)}{hint}{'' if fits else f', found {kind}'}"


def _expected(node: Node, *, in_full: bool) -> str:
    """Say what the schema asks for; its type too when in full."""
    match node:
        case {"pattern": pattern}:
            text = _PATTERNS[pattern]
        case {"enum": values}:
            text = f"one of {', '.join(map(repr, values))}"
        case {"format": "date"}:
            text = f"a date without quotes from {FIRST_DAY} to {LAST_DAY}"
        case {"minimum": low, "maximum": high, "type": kind}:
            span = f"{low} to {high}" if low < high else str(low)
            text = f"{'a whole number' if kind == 'integer' else 'a number'}, {span}" if in_full else span
        case {"type": "string", "maxLength": most}:
            text = f"text in quotes, {node.get('minLength', 0)} to {most} characters"
        case {"type": "string"}:
            text = "text in quotes"
        case {"type": "array", "minItems": least}:
            most = f" and at most {node['maxItems']}" if "maxItems" in node else ""
            text = f"a list of at least {least}{most}"
        case {"type": "array"}:
            text = "a list"
        case {"type": "boolean"}:
            text = "true or false"
        case _:
            text = "a table of keys and values"
    return text


def _key_hint(place: Place, schema: Node) -> str:
    """Say what an unknown key may have been meant to be."""
    key, inside = str(place[-1]), place[0]
    keys = list(node_at(place[:-1], schema).get("properties", ()))
    if len(place) > 1 and key in schema["properties"] and schema["properties"][inside].get("type") != "array":
        return f"it is a key of the policy itself: write it above [{inside}]"
    near = get_close_matches(key[:80].lower(), keys, n=1)
    return f"did you mean {near[0]!r}?" if near else f"keys here: {', '.join(keys)}"


def toml_value(value: object) -> str:
    """Write a value as TOML does, cut to 80 characters.

    >>> toml_value(True), toml_value(date(2026, 1, 31)), toml_value("a")
    ('true', '2026-01-31', "'a'")
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, str):
        return shown(value)
    try:
        return shown(str(value))[1:-1]
    except ValueError:  # Python writes no number of more than 4,300 digits
        return "a number of thousands of digits"
