"""The TOML of a policy: what a program has made of one, written so that people can go on with it."""

import json
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any, Final

from enforcement.policy import Policy

_TABLES: Final = ("notice", "pause", "export")
_LISTS: Final = ("exemptions", "guardrails")


def policy_toml(policy: Policy, *, heading: str = "") -> str:
    """Write a policy file, which reads back as the same policy; the heading becomes comments.

    >>> from enforcement.policy_text import parse_policy
    >>> text = 'schema_version = 1' + chr(10) + 'name = "p"' + chr(10)
    >>> text += 'rules = [{ name = "r", since = "missing_since" }]'
    >>> text += chr(10) + 'cohorts = [{ name = "all", starts_on = 2026-01-01 }]' + chr(10) + 'stages = [{ block = 60 }]'
    >>> policy = parse_policy(text, source="p.toml")
    >>> parse_policy(policy_toml(policy, heading="Mine."), source="again.toml") == policy
    True
    """
    data = policy.model_dump(by_alias=True, exclude_none=True)
    lines = [f"# {line}".rstrip() for line in heading.splitlines()]
    lines += [f"{key} = {_value(value)}" for key, value in data.items() if key not in (*_TABLES, *_LISTS)]
    for key in _TABLES:
        if key in data:
            lines += ["", f"[{key}]", *_keys(data[key])]
    for key in _LISTS:
        for part in data[key]:
            lines += ["", f"[[{key}]]", *_keys(part)]
    return "\n".join(lines) + "\n"


def _keys(part: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"{key} = {_value(value)}" for key, value in part.items())


def _value(value: object) -> str:
    match value:
        case bool() | int() | float() | date():
            return str(value).lower()  # 1e-07 and dates are TOML as Python writes them
        case Mapping():
            return f"{{ {', '.join(_keys(value))} }}"
        case [Mapping(), *_]:
            return "[\n" + "".join(f"  {_value(each)},\n" for each in value) + "]"
        case list() | tuple():
            return f"[{', '.join(map(_value, value))}]"
    return json.dumps(str(value), ensure_ascii=False)  # a TOML basic string has the same escapes
