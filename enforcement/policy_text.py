"""The text of a policy: read from TOML with an error for each problem, described by a schema, written as JSON."""

import json
import re
import tomllib
from collections.abc import Sequence
from functools import cache
from typing import Any, Final, NamedTuple, cast

from pydantic import ValidationError

from enforcement.names import shown
from enforcement.policy import SCHEMA_VERSION, Policy
from enforcement.policy_problems import Place, place_of, problem_line, toml_value

_LARGEST: Final = 1_000_000  # characters
_DEEPEST: Final = 8  # levels; the format needs 4
_MOST_SHOWN: Final = 20
_LONGEST_SAID: Final = 200  # characters of what the TOML parser says

# Strings and comments of TOML, closed or not: each is gone over once, whatever it holds.
_STRINGS = re.compile(
    r'"""(?:\\.|[^\\])*?(?:"""|\Z)|\'\'\'.*?(?:\'\'\'|\Z)|"(?:\\[^\n]|[^"\\\n])*"?|\'[^\'\n]*\'?|#[^\n]*', re.DOTALL
)
_LONG_KEY = re.compile(rf"(?<![\w-])(?:[\w-]++[ \t]*+\.[ \t]*+){{{_DEEPEST}}}", re.ASCII)
_POSITION = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


class Problem(NamedTuple):
    """What is wrong with a value of a policy, in a line, and the keys and indices that lead to it."""

    place: Place
    line: str


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
        data = read_toml(text)
        _check_version(data)
    except ValueError as error:
        raise PolicyError([f"{source}: {error}"]) from None
    policy, found = policy_of(data)
    if policy is not None:
        return policy
    problems = [f"{source}: {problem.line}" for problem in found[:_MOST_SHOWN]]
    if len(found) > _MOST_SHOWN:
        problems.append(f"{source}: shown {_MOST_SHOWN} of {len(found)} problems")
    raise PolicyError(problems)


def policy_of(data: dict[str, Any]) -> tuple[Policy | None, tuple[Problem, ...]]:
    """Make a policy of what TOML holds, or say what is wrong with it, and where.

    >>> policy, problems = policy_of({"schema_version": 1, "name": "p", "rules": [{"name": "r",
    ...     "since": "missing_since"}], "cohorts": [], "stages": [{"block": 70}]})
    >>> policy, [problem.place for problem in problems]
    (None, [('cohorts',), ('stages', 0, 'block')])
    """
    try:
        return Policy.model_validate(data, by_alias=True, by_name=False), ()
    except ValidationError as error:
        # A list whose parts are all wrong is not too short as well.
        found = [each for each in error.errors(include_url=False) if each["type"] != "too_short" or not each["input"]]
    schema = policy_schema()
    return None, tuple(Problem(place_of(each), problem_line(each, data=data, schema=schema)) for each in found)


@cache
def policy_schema() -> dict[str, Any]:
    """Give the JSON Schema of a policy file, for editors.

    >>> policy_schema()["required"]
    ['schema_version', 'name', 'rules', 'cohorts', 'stages']
    """
    schema = without_null(Policy.model_json_schema())
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def canonical_json(policy: Policy) -> str:
    r"""Write every key of a policy, sorted, so that equal policies are equal texts.

    >>> text = 'schema_version = 1\nname = "p"\nrules = [{ name = "r", since = "missing_since" }]\n'
    >>> text += 'cohorts = [{ name = "all", starts_on = 2026-01-01 }]\nstages = [{ block = 60 }]'
    >>> canonical_json(parse_policy(text, source="p.toml")).splitlines()[:3]
    ['{', '  "author": "",', '  "baseline": "none",']
    """
    written = policy.model_dump(mode="json", by_alias=True)
    return json.dumps(written, sort_keys=True, ensure_ascii=False, indent=2) + "\n"


def without_null(node: Any) -> Any:  # noqa: ANN401 - any part of a JSON document
    """Take out of a schema that something may be null, which TOML cannot write.

    >>> without_null({"anyOf": [{"type": "array"}, {"type": "null"}], "default": None})
    {'type': 'array'}
    """
    if isinstance(node, list):
        return [without_null(each) for each in node]
    if not isinstance(node, dict):
        return node
    kept = {key: without_null(value) for key, value in node.items() if (key, value) != ("default", None)}
    choices = cast("list[dict[str, object]]", kept.pop("anyOf", []))
    return {key: value for each in [*choices, kept] if each != {"type": "null"} for key, value in each.items()}


def read_toml(text: str | bytes) -> dict[str, Any]:
    """Read TOML of a bounded size and depth, or raise ValueError with a line that says where it goes wrong.

    >>> read_toml("a = 1")
    {'a': 1}
    """
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
    return data


def _check_version(data: dict[str, Any]) -> None:
    version = data.get("schema_version")
    if type(version) is int and version > SCHEMA_VERSION:  # of which nothing else can be judged
        raise ValueError(
            f"schema_version = {toml_value(version)}: expected {SCHEMA_VERSION} (a newer program wrote this file)"
        )


def _toml_error(message: str) -> str:
    where = _POSITION.search(message)
    text = message[: where.start()] if where else message
    said = f"not TOML: {''.join(c if c.isprintable() else repr(c)[1:-1] for c in text[:_LONGEST_SAID])}"
    if where is None:
        return said
    return f"line {where[1]}, column {where[2]}: {said}" if where[1] else f"at the end: {said}"


def _is_deeper(value: object, levels: int) -> bool:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels < 0 or any(_is_deeper(each, levels - 1) for each in inside)
