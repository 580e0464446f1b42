"""The text of a policy: read from TOML with an error for each problem, described by a schema, written as JSON."""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from difflib import get_close_matches
from functools import cache
from typing import Any, Final, TypeAlias

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from enforcement.names import shown
from enforcement.policy import BUILD_NUMBER, FIRST_DAY, LAST_DAY, SCHEMA_VERSION, SERVICE_NAME, SLUG, URL, Policy

Place: TypeAlias = tuple[str | int, ...]  # the keys and indices that lead to a value, from 0
Node: TypeAlias = Mapping[str, Any]

_LARGEST: Final = 1_000_000  # characters
_DEEPEST: Final = 8  # the format needs 4
_MOST_SHOWN: Final = 20
_ABSENT: Final = object()

# Strings and comments of TOML, closed or not: each is gone over once, whatever it holds.
_STRINGS = re.compile(
    r'"""(?:\\.|[^\\])*?(?:"""|\Z)|\'\'\'.*?(?:\'\'\'|\Z)|"(?:\\[^\n]|[^"\\\n])*"?|\'[^\'\n]*\'?|#[^\n]*', re.DOTALL
)
_LONG_KEY = re.compile(rf"(?<![\w-])(?:[\w-]++[ \t]*+\.[ \t]*+){{{_DEEPEST}}}", re.ASCII)
_POSITION = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_BARE = re.compile(r"[A-Za-z0-9_+ -]{1,80}")

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
    URL: "an address that begins with https:// or http://",
    SERVICE_NAME: "at most 60 letters, digits, signs and spaces of ASCII",
}


class PolicyError(ValueError):
    """A text that is no policy; `problems` has a line for each thing that is wrong with it."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def parse_policy(text: str | bytes, *, source: str) -> Policy:
    """Read a policy from TOML, or say in a PolicyError what each problem is, with the name of the source.

    >>> text = '''
    ... schema_version = 1
    ... name    = "block-only"
    ... rules   = [{ name = "unpatched", since = "missing_since", after_days = 90 }]
    ... cohorts = [{ name = "all", starts_on = 2026-01-01 }]
    ... stages  = [{ days = 30 }, { block = 60 }]
    ... '''
    >>> parse_policy(text, source="block-only.toml").stage_starts
    (0, 30)
    >>> parse_policy(text.replace("60", "70"), source="block-only.toml")
    Traceback (most recent call last):
    enforcement.policy_text.PolicyError: block-only.toml: stages[1].block = 70: expected 0 to 60 (stage 2)
    """
    source = shown(source)[1:-1]
    try:
        data = _toml(text)
    except ValueError as error:
        raise PolicyError([f"{source}: {error}"]) from None
    try:
        return Policy.model_validate(data, by_alias=True, by_name=False)
    except ValidationError as error:
        found = error.errors(include_url=False)
    problems = [f"{source}: {_problem(each, data)}" for each in found[:_MOST_SHOWN]]
    if len(found) > _MOST_SHOWN:
        problems.append(f"{source}: shown {_MOST_SHOWN} of {len(found)} problems")
    raise PolicyError(problems)


@cache
def policy_schema() -> dict[str, Any]:
    """Give the JSON Schema of a policy file, for editors.

    >>> policy_schema()["required"]
    ['schema_version', 'name', 'rules', 'cohorts', 'stages']
    """
    schema = Policy.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_without_null(schema)}


def canonical_json(policy: Policy) -> str:
    """Write every key of a policy, sorted, so that equal policies are equal texts."""
    written = policy.model_dump(mode="json", by_alias=True)
    return json.dumps(written, sort_keys=True, ensure_ascii=False, indent=2) + "\n"


def _without_null(node: Any) -> Any:
    """Take out of a schema what may be null, which TOML cannot write."""
    if isinstance(node, list):
        return [_without_null(each) for each in node]
    if not isinstance(node, dict):
        return node
    node = {key: _without_null(value) for key, value in node.items()}
    if "anyOf" in node:
        (only,) = (each for each in node.pop("anyOf") if each != {"type": "null"})
        node = {**only, **node}
        if node.get("default", _ABSENT) is None:
            del node["default"]
    return node


def _toml(text: str | bytes) -> dict[str, Any]:
    """Read TOML of a bounded size and depth, or raise ValueError with a line that says where it goes wrong."""
    if len(text) > _LARGEST:
        raise ValueError(f"{len(text)} characters long (expected at most {_LARGEST})")
    if isinstance(text, bytes):
        try:
            text = text.decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"not UTF-8 text (byte {error.start + 1} is 0x{text[error.start]:02x})") from None
    text = text.removeprefix("\ufeff")
    too_deep = ValueError(f"nested too deeply (expected at most {_DEEPEST} levels)")
    if _LONG_KEY.search(_STRINGS.sub("s", text)):  # the parser takes quadratic time and room for such a key
        raise too_deep
    try:
        data = tomllib.loads(text)
    except RecursionError:
        raise too_deep from None
    except ValueError as error:
        raise ValueError(_toml_error(str(error))) from None
    if _is_deeper(data, _DEEPEST):
        raise too_deep
    version = data.get("schema_version")
    if type(version) is int and version > SCHEMA_VERSION:  # of which nothing else can be judged
        raise ValueError(
            f"schema_version = {_value(version)}: expected {SCHEMA_VERSION} (a newer program wrote this file)"
        )
    return data


def _toml_error(message: str) -> str:
    position = _POSITION.search(message)
    if position is None:
        return f"not TOML: {_cut(message)}"
    where = f"line {position[1]}, column {position[2]}" if position[1] else "at the end"
    return f"{where}: not TOML: {_cut(message[: position.start()])}"


def _is_deeper(value: object, levels: int) -> bool:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels < 0 or any(_is_deeper(each, levels - 1) for each in inside)


def _problem(error: ErrorDetails, data: object) -> str:
    """Write one of pydantic's errors in our words: key, value, what was expected."""
    place, context = error["loc"], error.get("ctx", {})
    if error["type"] == "extra_forbidden":
        return f"{_key(place)}: unknown key ({_key_hint(place)}){_counted(place)}"
    if error["type"] == "missing":
        return f"{_key(place)}: missing (expected {_expected(_node(place), in_full=True)}){_counted(place)}"
    if error["type"] == "problem":
        place = (*place, *context["at"])
        value, message = _found(data, place), context["message"]
    else:
        value, node = _found(data, place), _node(place)
        kind, taken_as = _KINDS[type(value)]
        fits = node.get("format", node.get("type")) in taken_as
        message = f"expected {_expected(node, in_full=not fits)}{_value_hint(value, node)}"
        message += "" if fits else f", found {kind}"
    is_short = value is not _ABSENT and not isinstance(value, dict | list)
    return f"{_key(place)}{f' = {_value(value)}' if is_short else ''}: {message}{_counted(place)}"


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
    """Say which stage, rule, … counted from 1 as in all reports, a place is in."""
    match place:
        case (str(parts), int(index), *_):
            return f" ({parts.removesuffix('s').replace('_', ' ')} {index + 1})"
    return ""


def _found(data: object, place: Place) -> object:
    """Look up the value at a place, if there is one."""
    for part in place:
        if isinstance(data, dict) and part in data:
            data = data[part]
        elif isinstance(data, list) and isinstance(part, int):
            data = data[part]
        else:
            return _ABSENT
    return data


def _node(place: Place) -> Node:
    """Look up what the schema says of the value at a place; empty: nothing."""
    schema = policy_schema()
    node: Node = schema
    for part in place:
        node = node.get("items", {}) if isinstance(part, int) else node.get("properties", {}).get(part, {})
        if "$ref" in node:
            node = {**schema["$defs"][node["$ref"].rpartition("/")[2]], **node}
    return node


def _expected(node: Node, *, in_full: bool) -> str:
    """Say what the schema asks for, its type too when in full."""
    if "pattern" in node:
        return _PATTERNS[node["pattern"]]
    match node:
        case {"enum": values}:
            return f"one of {', '.join(map(repr, values))}"
        case {"format": "date"}:
            return f"a date without quotes from {FIRST_DAY} to {LAST_DAY}"
        case {"minimum": low, "maximum": high, "type": kind}:
            if low == high:
                return str(low)
            number = "a whole number" if kind == "integer" else "a number"
            return f"{number} from {low} to {high}" if in_full else f"{low} to {high}"
        case {"type": "string"}:
            least, most = node.get("minLength", 0), node.get("maxLength")
            return f"text in quotes{f' of {least} to {most} characters' if most else ''}"
        case {"type": "array"}:
            least, most = node.get("minItems", 0), node.get("maxItems")
            return f"a list{f' of {least} to {most}' if most else f' of at least {least}' if least else ''}"
        case {"type": "boolean"}:
            return "true or false"
    return "a table of keys and values"


def _value_hint(value: object, node: Node) -> str:
    near = get_close_matches(str(value), map(str, node.get("enum", ())), n=1) if isinstance(value, str) else ()
    return f" (did you mean {near[0]!r}?)" if near else ""


def _key_hint(place: Place) -> str:
    """Say what an unknown key may have been meant to be."""
    key, table = str(place[-1]), place[0]
    keys = list(_node(place[:-1]).get("properties", ()))
    if key in policy_schema()["properties"] and len(place) > 1 and table not in ("rules", "cohorts", "stages"):
        return f"it is a key of the policy itself: write it above the first [{table}]"
    if near := get_close_matches(key[:80].lower(), keys, n=1):
        return f"did you mean {near[0]!r}?"
    return f"keys here: {', '.join(keys)}"


def _value(value: object) -> str:
    """Write a value as TOML does, cut to 80 characters."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, date | time):
        return value.isoformat()
    try:
        return shown(value) if isinstance(value, str) else _cut(str(value))
    except ValueError:  # Python writes no number of more than 4,300 digits
        return "a number of thousands of digits"


def _cut(text: str) -> str:
    return shown(text)[1:-1]
