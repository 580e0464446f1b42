"""What builds prove: the slow twin against examples worked by hand, and the package against the twin."""

from datetime import date

import pytest
from examples import EX2013, NEW_YEAR, PATCHED, clock, days, policy, replayed
from reference_builds import Facts, Standing, read_facts, stand


@pytest.fixture(scope="module")
def facts() -> Facts:
    return read_facts()


def test_a_build_newer_than_the_catalogue_misses_nothing(facts: Facts) -> None:
    """The newest builds, not in the catalogue yet, are of a known product and only age with it."""
    newer_se = stand("15.2.2562.9999", "smtp", policy(), facts)
    assert newer_se == Standing("newer", "Exchange Server SE", "RTM", proves=newer_se.proves)
    assert str(newer_se.proves) == "15.2.2562.9999"
    assert newer_se.on(date(2030, 1, 1)) == "current"

    newer_2016 = stand("15.1.2507.9999", "mapi", policy(), facts)
    assert (newer_2016.evidence, newer_2016.missing_since) == ("newer", None)
    assert (newer_2016.vulnerable_from, newer_2016.rule) == (date(2025, 10, 15), "unsupported")


def test_an_unknown_build_is_counted_but_never_enforced() -> None:
    """A line that no catalogue row has, or no build at all, proves nothing: neither vulnerable nor clean."""
    messages = [*days(NEW_YEAR, 1, EX2013), *days(date(2024, 1, 20), 100, None), *days(NEW_YEAR, 9, "15.2.9999.1")]
    replay = replayed(messages, policy())
    assert replay.evidence == {"exact": 1, "unknown": 109}
    assert (replay.total.read, replay.total.in_scope, replay.total.subject) == (110, 1, 1)
    assert clock(replay, date(2024, 4, 10)) == 100  # no clean day has ended the spell: 31 + 29 + 31 + 9 days on


def test_march_2021_shows_on_mapi_hops_only(facts: Facts) -> None:
    """2016 CU19 looks the same on smtp hops with and without the updates of early 2021; on mapi hops it does not."""
    # mapi: after CU19 of 2020-12-15 came Feb21SU on 2021-02-09, then Mar21SU on 2021-03-02, Apr21SU on 2021-04-13.
    assert stand("15.1.2176.2", "mapi", policy(), facts).missing_since == date(2021, 2, 9)
    assert stand("15.1.2176.4", "mapi", policy(), facts).missing_since == date(2021, 3, 2)
    assert stand("15.1.2176.9", "mapi", policy(), facts).missing_since == date(2021, 4, 13)
    # smtp: the first update that moved the transport binary was May21SU on 2021-05-11.
    for build in ("15.1.2176.2", "15.1.2176.9"):
        on_smtp = stand(build, "smtp", policy(), facts)
        assert on_smtp.missing_since == date(2021, 5, 11)
        assert on_smtp.vulnerable_from == date(2021, 8, 9)  # 90 days on: 20 of May, 30 of June, 31 of July, 9 of August


def test_exploited_since_needs_a_fix_that_the_hop_can_show(facts: Facts) -> None:
    """2013 CU23 Oct22SU lacks the fix of the vulnerability listed on 2022-09-30, Nov22SU, which no smtp hop shows."""
    # mapi: the later of 2022-09-30 and the fix's release, 2022-11-08.
    assert stand("15.0.1497.42", "mapi", policy(), facts).exploited_since == date(2022, 11, 8)
    # smtp: next comes the one fixed by Feb23SU on 2023-02-14, listed on 2026-04-13.
    assert stand("15.0.1497.42", "smtp", policy(), facts).exploited_since == date(2026, 4, 13)
    assert stand("15.0.1497.47", "mapi", policy(), facts).exploited_since is None


def test_between_two_builds_the_upper_one_is_proved(facts: Facts) -> None:
    """15.0.1497.32 lies between .28 and .33: at least Mar22SU, never the older Jan22SU."""
    between = stand("15.0.1497.32", "smtp", policy(), facts)
    assert (between.evidence, between.update) == ("rounded up", "Exchange Server 2013 CU23 Mar22SU")
    assert stand("15.20.7228.32", "smtp", policy(), facts).on(date(2024, 1, 1)) == "out of scope"


def test_minimum_builds_compare_with_what_is_proved(facts: Facts) -> None:
    """The earliest date of a minimum build above what the build proves, for its product and line."""
    minimum = policy(
        rules="""[{ name = "minimum", since = "below_minimum_since" }]""",
        minimum_builds="""[
          { product = "Exchange Server 2016", build = "15.1.2507.61", from = 2026-09-08 },
          { product = "Exchange Server 2016", build = "15.1.2507.31", from = 2024-05-01 },
          { product = "Exchange Server 2019", build = "15.2.1748.39", from = 2026-09-08, line = "CU15" },
        ]""",
    )
    assert stand("15.1.2507.27", "smtp", minimum, facts).vulnerable_from == date(2024, 5, 1)
    assert stand("15.1.2507.28", "smtp", minimum, facts).vulnerable_from == date(2026, 9, 8)  # proves .31
    assert stand("15.1.2507.61", "smtp", minimum, facts).vulnerable_from is None
    assert stand("15.2.1544.4", "smtp", minimum, facts).vulnerable_from is None  # CU14
    assert stand("15.2.1748.10", "smtp", minimum, facts).rule == "minimum"


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        ("product = 'Exchange Server 2016'", True),
        ("update LIKE '%Nov23SU' AND kind IN ('SU', 'CU')", True),
        ("update LIKE '%nov23su'", False),
        ("build >= '15.01.2507.035' and build < '15.01.2507.036'", True),
        ("missing_since BETWEEN DATE '2024-03-12' AND DATE '2024-03-12'", True),
        ("missing_since < DATE '2024-03-12'", False),
        ("below_minimum_since IS NULL", True),
        ("below_minimum_since > DATE '2000-01-01'", False),
        ("NOT below_minimum_since > DATE '2000-01-01'", False),  # neither true nor false
    ],
)
def test_when_is_asked_of_another_engine(facts: Facts, when: str, holds: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """A rule applies where its condition is true, not where it is false or unknown."""
    rules = f"""[{{ name = "unpatched", since = "missing_since", when = "{when}" }}]"""
    assert (stand(PATCHED, "smtp", policy(rules=rules), facts).rule == "unpatched") == holds


def test_of_rules_with_one_date_the_first_is_named(facts: Facts) -> None:
    """The earliest date wins; of two rules that give it, the one written first."""
    rules = '[{ name = "b", since = "missing_since" }, { name = "a", since = "missing_since" }]'
    assert stand(PATCHED, "smtp", policy(rules=rules), facts).rule == "b"
