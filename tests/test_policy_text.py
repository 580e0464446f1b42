"""The text of a policy: each problem in one line that names key, value and what was expected; schema; JSON."""

import json
import time
import tomllib
from collections.abc import Mapping
from datetime import date
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # the package carries no types
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_examples import EVERY_KEY, SHORTEST

from enforcement.policy import Policy
from enforcement.policy_text import PolicyError, canonical_json, parse_policy, policy_schema
from enforcement.shipped import load_policy, policy_file, shipped_policies

DRAFT = jsonschema.Draft202012Validator


def problems(text: str | bytes) -> list[str]:
    """Give what is told of a text that is no policy."""
    with pytest.raises(PolicyError) as error:
        parse_policy(text, source="mine.toml")
    assert str(error.value) == "\n".join(error.value.problems)
    return list(error.value.problems)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("throttle = 20 }", "throttle = 70 }", "stages[3].throttle = 70: expected 0 to 60 (stage 4)"),
        ("throttle = 20 }", "throttle = -1 }", "stages[3].throttle = -1: expected 0 to 60 (stage 4)"),
        (
            "throttle = 20 }",
            'throttle = "20" }',
            "stages[3].throttle = '20': expected a whole number, 0 to 60, found text (stage 4)",
        ),
        (
            "throttle = 20 }",
            "throttle = true }",
            "stages[3].throttle = true: expected a whole number, 0 to 60, found a boolean (stage 4)",
        ),
        (
            "throttle = 20 }",
            "throttle = 20.0 }",
            "stages[3].throttle = 20.0: expected a whole number, 0 to 60, found a number with decimals (stage 4)",
        ),
        (
            "throttle = 20 }",
            "throtle = 20 }",
            "stages[3].throtle: unknown key (did you mean 'throttle'?) (stage 4)",
        ),
        (
            "throttle = 20 }",
            '"\\u0007" = 20 }',
            "stages[3].'\\x07': unknown key (keys here: days, throttle, block) (stage 4)",
        ),
        ("block = 20 }", "block = 50 }", "stages[6]: throttle + block = 80: expected at most 60 (stage 7)"),
        ("{ days = 30 },", "{ days = -1 },", "stages[0].days = -1: expected 1 to 400 (stage 1)"),
        ("{ days = 30 },", "{ days = 350 },", "stages: days sum to 410 (expected at most 400)"),
        ("{ days = 30 },", "{},", "stages[0].days: missing (only the last stage has no days) (stage 1)"),
        ("{ block = 60 }", "{ days = 9 }", "stages[7].days = 9: expected none: the last stage has no end (stage 8)"),
        (
            '"missing_since"',
            '"mising_since"',
            (
                "rules[1].since = 'mising_since': expected one of 'unsupported_since', 'missing_since', "
                "'exploited_since', 'below_minimum_since' (did you mean 'missing_since'?) (rule 2)"
            ),
        ),
        ('"pilot"', '"2013"', "cohorts[1].name = '2013': expected a name that no other one has (cohort 2)"),
        ('"unpatched"', '"minimum"', "rules[3].name = 'minimum': expected a name that no other one has (rule 4)"),
        ('["direct"]', '["direct", "direct"]', "routes[1] = 'direct': expected each one once (route 2)"),
        ('["direct"]', "[]", "routes: expected a list of at least 1"),
        ('["direct"]', '"direct"', "routes = 'direct': expected a list of at least 1, found text"),
        ('["Exchange Server 2013"]', "[]", "cohorts[0].products: expected a list of at least 1 (cohort 1)"),
        (
            "2024-04-01",
            '"2024-04-01"',
            (
                "cohorts[2].starts_on = '2024-04-01': expected a date without quotes from 1970-01-01 to 2999-12-31, "
                "found text (cohort 3)"
            ),
        ),
        (
            "2024-04-01",
            "2024-04-01T10:00:00Z",
            (
                "cohorts[2].starts_on = 2024-04-01T10:00:00+00:00: expected a date without quotes from 1970-01-01 to "
                "2999-12-31, found a date with a time (cohort 3)"
            ),
        ),
        (
            "2024-04-01",
            "9999-12-31",
            (
                "cohorts[2].starts_on = 9999-12-31: expected a date without quotes from 1970-01-01 to "
                "2999-12-31 (cohort 3)"
            ),
        ),
        (
            "share_of_tenants = 0.05",
            "share_of_tenants = nan",
            "cohorts[1].share_of_tenants = nan: expected 0 to 1 (cohort 2)",
        ),
        (
            "share_of_tenants = 0.05",
            "share_of_tenants = 5",
            "cohorts[1].share_of_tenants = 5: expected 0 to 1 (cohort 2)",
        ),
        (
            '"15.1.2507.61"',
            '"15.1.2507"',
            (
                "minimum_builds[0].build = '15.1.2507': expected a build number in quotes, e.g. "
                "'15.2.1544.36' (minimum build 1)"
            ),
        ),
        (
            "from   = 2026-12-01",
            "from_on = 2026-12-01",
            "exemptions[0].from_on: unknown key (did you mean 'from'?) (exemption 1)",
        ),
        (
            "until  = 2027-03-31",
            "until = 2026-11-30",
            "exemptions[0].until = 2026-11-30: expected 2026-12-01 (its first day) or later (exemption 1)",
        ),
        (
            "until  = 2027-03-31",
            "",
            "exemptions[0].until: missing (expected a date without quotes from 1970-01-01 to 2999-12-31) (exemption 1)",
        ),
        ('tenant = "hospital.example"', "", "exemptions[0]: expected either a tenant or a server (exemption 1)"),
        (
            'tenant = "hospital.example"',
            'tenant = "a.example"\nserver = "mx.a.example"',
            "exemptions[0]: expected either a tenant or a server (exemption 1)",
        ),
        (
            '"lost_share_of_mail"',
            '"lost_share"',
            (
                "guardrails[0].measure = 'lost_share': expected one of 'delayed_share_of_mail', "
                "'delayed_share_of_subject', 'lost_share_of_mail', 'lost_share_of_subject', 'rejected_share_of_mail', "
                "'rejected_share_of_subject', "
                "'expired_share_of_mail', 'expired_share_of_subject', 'accepted_vulnerable_share_of_mail', "
                "'accepted_vulnerable_share_of_subject' (did you mean 'lost_share_of_mail'?) (guardrail 1)"
            ),
        ),
        (
            '"example-of-every-key"',
            '"../../etc"',
            (
                "name = '../../etc': expected letters, digits, '-', '_' and '.', at most 64, a letter or digit "
                "first and last"
            ),
        ),
        ('"example-of-every-key"', '"none"', "name = 'none': expected another name: 'none' means no policy"),
        (
            'title       = "..."',
            'title = "a\\u001b[31m"',
            "title = 'a\\x1b[31m': expected printable characters in one line",
        ),
        (
            '"Exchange Online"',
            '"A\\r\\n250 ok"',
            "export.service_name = 'A\\r\\n250 ok': expected at most 60 letters, digits, signs and spaces of ASCII",
        ),
        (
            '"https://..."',
            '"javascript:alert(1)"',
            (
                "notice.announcement_url = 'javascript:alert(1)': expected an address of at most 500 characters that "
                "begins with https:// or http://"
            ),
        ),
        (
            "[pause]",
            "[pause]\nclear_after_days = 20",
            "pause.clear_after_days: unknown key (it is a key of the policy itself: write it above [pause])",
        ),
        ("[pause]", "[[pause]]", "pause: expected a table of keys and values, found a list"),
        (
            "schema_version = 1",
            "schema_version = 2",
            "schema_version = 2: expected 1 (a newer program wrote this file)",
        ),
        (
            "schema_version = 1",
            "schema_version = true",
            "schema_version = true: expected a whole number, 1, found a boolean",
        ),
        (
            "after_days = 90",
            "after_days = 1000000000000000000000000000000",
            "rules[1].after_days = 1000000000000000000000000000000: expected 0 to 3660 (rule 2)",
        ),
        (
            "after_days = 90",
            f"after_days = 0x{'f' * 9_000}",
            "rules[1].after_days = a number of thousands of digits: expected 0 to 3660 (rule 2)",
        ),
        ("<> 'Ex", "<> read_csv('Ex", None),
    ],
)
def test_a_problem_is_told_in_one_line(old: str, new: str, told: str | None) -> None:
    """One wrong thing in the example of every key: file, key, value, what was expected, the nearest valid key."""
    assert EVERY_KEY.count(old) == 1
    lines = problems(EVERY_KEY.replace(old, new))
    assert len(lines) == 1
    if told is None:
        assert lines[0].startswith("mine.toml: rules[2].when = ")
        assert "unknown word 'read_csv' (columns: product, line, " in lines[0]
    else:
        assert lines == [f"mine.toml: {told}"]


def test_every_problem_has_its_line() -> None:
    """Several things wrong: a line each; an empty file: a line for each required key."""
    wrong = EVERY_KEY.replace("throttle = 20 }", "throttle = 70 }").replace("days_per_year", "days_a_year")
    assert problems(wrong) == [
        "mine.toml: stages[3].throttle = 70: expected 0 to 60 (stage 4)",
        "mine.toml: pause.days_per_year: missing (expected a whole number, 0 to 366)",
        "mine.toml: pause.days_a_year: unknown key (did you mean 'days_per_year'?)",
    ]
    assert [line.split(": ")[1] for line in problems("")] == ["schema_version", "name", "rules", "cohorts", "stages"]


def test_of_very_many_problems_some_are_shown() -> None:
    """Twenty lines, and one that says how many there are."""
    lines = problems(SHORTEST.replace("{ block = 60 }", "{ a = 1 }, " * 1_000))
    assert len(lines) == 21
    assert lines[-1] == "mine.toml: shown 20 of 1000 problems"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"\xff\xfe\x00", "not UTF-8 text (byte 1 is 0xff)"),
        ("x" * 1_000_001, "1000001 characters long (expected at most 1000000)"),
        ("a = " + "[" * 100_000, "nested too deeply (expected at most 8 levels)"),
        ("a = " + "[" * 9 + "]" * 9, "nested too deeply (expected at most 8 levels)"),
        ("a = " + "{a = " * 100_000, "nested too deeply (expected at most 8 levels)"),
        ("a." * 400_000 + "a = 1", "nested too deeply (expected at most 8 levels)"),
        ('"a b" . ' * 100_000 + "a = 1", "nested too deeply (expected at most 8 levels)"),
        ("[" + "'.'." * 200_000 + "a]", "nested too deeply (expected at most 8 levels)"),
    ],
)
def test_what_is_no_toml_is_told_in_one_line(text: str | bytes, told: str) -> None:
    """Broken, binary, huge and deeply nested files: one clear line, and at once."""
    start = time.monotonic()
    assert problems(text) == [f"mine.toml: {told}"]
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    "text", ["a" * 999_999, '"""' + '\\"""' * 200_000, "'" * 999_999, "# " + "a.b" * 300_000, "a . " * 7]
)
def test_large_texts_without_structure_take_no_time(text: str) -> None:
    """The guard against deep keys goes over each text once."""
    start = time.monotonic()
    problems(text)
    assert time.monotonic() - start < 5


def test_dots_in_texts_and_comments_are_no_keys() -> None:
    """A name with many labels is no nested key."""
    name = "a.b.c.d.e.f.g.h.i.j.example"
    text = SHORTEST.replace("starts_on", f'tenants = ["{name}"], starts_on') + f"# {name}\n"
    assert parse_policy(text, source="mine.toml").cohorts[0].tenants == (name,)


def test_bytes_and_byte_order_marks_are_read() -> None:
    """A file as editors on Windows write it is the same policy."""
    written = b"\xef\xbb\xbf" + SHORTEST.replace("\n", "\r\n").encode()
    assert parse_policy(written, source="mine.toml") == parse_policy(SHORTEST, source="mine.toml")


def test_the_source_cannot_forge_a_line() -> None:
    """A file name with a line break stays in its line."""
    with pytest.raises(PolicyError) as error:
        parse_policy("", source="a\nb.toml")
    assert all(line.startswith("a\\nb.toml: ") for line in str(error.value).split("\n"))


def is_clear(line: str) -> bool:
    """Whether a line of an error is one line, short, ours, and safe to print."""
    foreign = ("pydantic", "Input should", "validation error", "https://errors", "Traceback")
    return line.isprintable() and len(line) < 1_500 and not any(word in line for word in foreign)


def parses_or_tells(text: str | bytes) -> None:
    try:
        policy = parse_policy(text, source="mine.toml")
    except PolicyError as error:
        told = error.problems
    else:
        assert isinstance(policy, Policy)
        return
    assert told
    assert all(line.startswith("mine.toml: ") and is_clear(line) for line in told)


@settings(deadline=None)
@given(st.text() | st.binary())
def test_any_text_is_a_policy_or_a_policy_error(text: str | bytes) -> None:
    """Nothing else ever comes out."""
    parses_or_tells(text)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_policy_is_a_policy_or_a_policy_error(data: st.DataObject) -> None:
    """The example of every key with a piece cut out and something else put in."""
    start = data.draw(st.integers(0, len(EVERY_KEY)))
    end = data.draw(st.integers(start, min(len(EVERY_KEY), start + 40)))
    put = data.draw(
        st.text(max_size=8) | st.sampled_from(["[", "{", '"', "= -1", "[[a]]", "true", "1979-05-27", "nan"])
    )
    parses_or_tells(EVERY_KEY[:start] + put + EVERY_KEY[end:])


SCALARS: st.SearchStrategy[Any] = (
    st.booleans()
    | st.integers()
    | st.floats()
    | st.dates()
    | st.datetimes()
    | st.times()
    | st.text(max_size=5)
    | st.sampled_from(
        ["direct", "Exchange Server 2016", "missing_since", "15.1.2507.61", "day", "spread", "kind = 'SU'"]
    )
)
KEYS = sorted(
    {key for part in [policy_schema(), *policy_schema()["$defs"].values()] for key in part.get("properties", ())}
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=8,
)


def toml(value: Any) -> str:
    """Write a value as TOML, in one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, bool | float | int):
        return str(value).lower()
    return str(value.isoformat())


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3))
def test_any_values_of_the_keys_are_a_policy_or_a_policy_error(values: dict[str, Any]) -> None:
    """The shortest policy with keys of any value: of the wrong type, out of bounds, in the wrong place."""
    whole = {**tomllib.loads(SHORTEST), **values}
    parses_or_tells("\n".join(f"{key} = {toml(value)}" for key, value in whole.items()))


def as_json(value: Any) -> Any:
    """Write dates as editors show them to the schema."""
    if isinstance(value, dict):
        return {key: as_json(each) for key, each in value.items()}
    if isinstance(value, list):
        return [as_json(each) for each in value]
    return value.isoformat() if isinstance(value, date) else value


@pytest.mark.parametrize("text", [EVERY_KEY, SHORTEST, *(policy_file(name).read_text() for name in shipped_policies())])
def test_the_schema_takes_what_the_parser_takes(text: str) -> None:
    """The examples and the shipped policies are valid in an editor."""
    DRAFT.check_schema(policy_schema())
    parse_policy(text, source="mine.toml")
    assert [error.message for error in DRAFT(policy_schema()).iter_errors(as_json(tomllib.loads(text)))] == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("throttle = 20 }", "throttle = 70 }"),
        ("throttle = 20 }", "throtle = 20 }"),
        ("throttle = 20 }", 'throttle = "20" }'),
        ('"missing_since"', '"mising_since"'),
        ('"Exchange Server 2013"', '"Exchange Server 2017"'),
        ('"15.1.2507.61"', '"15.1"'),
        ("days_per_year = 90", ""),
        ("schema_version = 1", "schema_version = 2"),
        ('"example-of-every-key"', '"a/b"'),
    ],
)
def test_the_schema_refuses_what_an_editor_can_see(old: str, new: str) -> None:
    """Wrong types, bounds, words and keys are underlined while they are typed."""
    assert not DRAFT(policy_schema()).is_valid(as_json(tomllib.loads(EVERY_KEY.replace(old, new))))
    problems(EVERY_KEY.replace(old, new))


def test_the_schema_describes_every_key() -> None:
    """An editor shows a sentence for each key, and never says null, which TOML has not."""
    schema = policy_schema()
    for part in [schema, *schema["$defs"].values()]:
        for key, node in part.get("properties", {}).items():
            described = {**schema["$defs"].get(node.get("$ref", "").rpartition("/")[2], {}), **node}
            assert described["description"].endswith("."), key
    assert "null" not in json.dumps(schema)


@pytest.mark.parametrize("text", [EVERY_KEY, SHORTEST, *(policy_file(name).read_text() for name in shipped_policies())])
def test_canonical_json_holds_the_whole_policy(text: str) -> None:
    """What is written can be read again and is the same policy; keys are sorted, lines end in LF."""
    policy = parse_policy(text, source="mine.toml")
    written = canonical_json(policy)
    assert Policy.model_validate_json(written) == policy
    assert canonical_json(Policy.model_validate_json(written)) == written
    assert written == json.dumps(json.loads(written), sort_keys=True, ensure_ascii=False, indent=2) + "\n"
    assert "\r" not in written


def test_canonical_json_does_not_depend_on_how_the_file_is_written() -> None:
    """Order of keys, comments, defaults written out, spelling of names: the same policy, the same text."""
    other = """
    stages  = [{ block = 60, throttle = 0 }] # the same in another order
    cohorts = [{ starts_on = 2026-01-01, name = "all" }]
    rules   = [{ since = "missing_since", name = "unpatched", after_days = 0 }]
    name    = "shortest"
    window  = "top of the hour"
    schema_version = 1
    """
    assert canonical_json(parse_policy(other, source="a")) == canonical_json(parse_policy(SHORTEST, source="b"))
    stricter = SHORTEST.replace('"missing_since" }', '"missing_since", after_days = 1 }')
    assert canonical_json(parse_policy(stricter, source="a")) != canonical_json(load_policy("ninety-days"))
    assert canonical_json(parse_policy(stricter, source="a")) != canonical_json(parse_policy(SHORTEST, source="b"))
