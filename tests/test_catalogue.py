"""The catalogue: what loading refuses, and what a build proves."""

import re
from datetime import date

import pytest

from enforcement.builds import Build, Evidence, Hop
from enforcement.catalogue import Catalogue, read_catalogue
from enforcement.shipped import load_catalogue

BUILDS = """\
product,name,line,kind,released_on,date_precision,build,kb,fixes_cves,is_security,is_public,shown_by_smtp_hop
Exchange Server 2019,2019 CU1,CU1,CU,2024-01-01,day,15.2.100.10,,,false,true,true
Exchange Server 2019,2019 CU1 SU1,CU1,SU,2024-02-01,day,15.2.100.20,,,true,true,false
Exchange Server 2019,2019 CU1 SU2,CU1,SU,2024-03-01,day,15.2.100.30,,,true,false,true
Exchange Server 2019,2019 CU1 SU3,CU1,SU,2024-04-01,day,15.2.100.40,,,true,true,true
Exchange Server 2019,2019 CU2,CU2,CU,2024-02-15,day,15.2.200.5,,,false,true,true
"""
LIFECYCLE = """product,extended_end
Exchange Server 2019,2025-10-14
"""
EXPLOITS = """cve,date_added,first_fix_2010,first_fix_2013,first_fix_2016,first_fix_2019,first_fix_se,note
CVE-1,2024-03-10,,,,CU1 SU1=15.2.100.20,,
CVE-2,2024-03-20,,,,CU1 SU3=15.2.100.40,,
"""


def read(*, builds: str = BUILDS, lifecycle: str = LIFECYCLE, exploits: str = EXPLOITS) -> Catalogue:
    return read_catalogue(builds=builds, lifecycle=lifecycle, exploits=exploits)


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"builds": BUILDS.replace("100.20", "100.10")}, "stands twice"),
        ({"builds": BUILDS.replace("2024-04-01", "2024-02-20")}, "was released before it"),
        ({"builds": BUILDS.replace("Exchange Server 2019,2019 CU2", "Exchange Server 2020,2019 CU2")}, "2020"),
        ({"builds": BUILDS.replace("2024-04-01", "2024-04-31")}, "not a date: '2024-04-31'"),
        ({"builds": BUILDS.replace("15.2.200.5", "15.2.200")}, "not a build number: '15.2.200'"),
        ({"builds": BUILDS.replace(",false,true,true\n", ",maybe,true,true\n", 1)}, "'maybe'"),
        ({"builds": BUILDS + "Exchange Server 2019,short\n"}, "expected 12 fields"),
        ({"lifecycle": LIFECYCLE + "Exchange Server 2019,2025-10-14\n"}, "stands twice"),
        ({"lifecycle": "product,extended_end\n"}, "no row for Exchange Server 2019"),
        ({"exploits": EXPLOITS.replace("100.40", "100.41")}, "no release of Exchange Server 2019"),
    ],
)
def test_loading_names_what_is_wrong(files: dict[str, str], told: str) -> None:
    """Duplicates, dates out of order, unknown products and stray values are refused, and the value is named."""
    with pytest.raises(ValueError, match=re.escape(told)) as error:
        read(**files)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("build", "evidence", "name"),
    [
        ("15.2.100.20", Evidence.EXACT, "2019 CU1 SU1"),
        ("15.2.100.21", Evidence.ROUNDED_UP, "2019 CU1 SU2"),  # up, never down: down would accuse a patched server
        ("15.2.100.1", Evidence.ROUNDED_UP, "2019 CU1"),
        ("15.2.100.41", Evidence.NEWER, None),
        ("15.2.101.1", Evidence.UNKNOWN, None),
        ("15.20.100.20", Evidence.CLOUD, None),
        ("15.21.92.5", Evidence.CLOUD, None),
    ],
)
def test_a_build_proves_the_release_at_or_above_it_in_its_line(build: str, evidence: Evidence, name: str) -> None:
    placed = read().place(Build.parse(build))
    assert placed.evidence is evidence
    assert (placed.release.name if placed.release else None) == name


def test_missing_since_counts_what_the_hop_could_have_shown() -> None:
    """SU1 never shows on smtp hops and SU2 is private: an smtp hop of the bare CU1 misses SU3 alone."""
    catalogue = read()
    placed = catalogue.place(Build.parse("15.2.100.10"))
    assert catalogue.dates(placed, Hop.SMTP).missing_since == date(2024, 4, 1)
    assert catalogue.dates(placed, Hop.SMTP, count_private_updates=True).missing_since == date(2024, 3, 1)
    assert catalogue.dates(placed, Hop.MAPI).missing_since == date(2024, 2, 1)


def test_a_later_line_misses_only_what_came_after_it() -> None:
    """CU2 came after SU1 and before SU3, which is for the same product though for another line."""
    catalogue = read()
    assert catalogue.dates(catalogue.place(Build.parse("15.2.200.5")), Hop.MAPI).missing_since == date(2024, 4, 1)


def test_exploited_since_is_the_later_of_listing_and_fix() -> None:
    """CU1 lacks both fixes. On mapi hops: CVE-1 fixed 2024-02-01, listed 2024-03-10; so 2024-03-10.
    On smtp hops that fix never shows; CVE-2 was listed 2024-03-20 and fixed 2024-04-01; so 2024-04-01."""
    catalogue = read()
    placed = catalogue.place(Build.parse("15.2.100.10"))
    assert catalogue.dates(placed, Hop.MAPI).exploited_since == date(2024, 3, 10)
    assert catalogue.dates(placed, Hop.SMTP).exploited_since == date(2024, 4, 1)


def test_a_line_without_a_fix_lacks_it_when_it_is_older_than_the_first() -> None:
    """CU2 (2024-02-15) has no fix in its line: it came after the first fix of CVE-1, and before that of CVE-2."""
    catalogue = read()
    dates = catalogue.dates(catalogue.place(Build.parse("15.2.200.5")), Hop.MAPI)
    assert dates.exploited_since == date(2024, 4, 1)


def test_a_newer_build_misses_nothing_but_its_support_ends() -> None:
    catalogue = read()
    dates = catalogue.dates(catalogue.place(Build.parse("15.2.100.99")), Hop.SMTP)
    assert (dates.missing_since, dates.exploited_since, dates.unsupported_since) == (None, None, date(2025, 10, 15))


def test_the_shipped_catalogue_is_whole() -> None:
    """2007 to SE, in order, and every fix of a listed vulnerability is a release."""
    catalogue = load_catalogue()
    builds = [release.build for release in catalogue.releases]
    assert builds == sorted(builds)
    assert {release.product for release in catalogue.releases} == set(catalogue.support_ends) | {"Exchange Server SE"}
    assert sum(bool(exploit.fixes) for exploit in catalogue.exploits) >= 18  # one names no fixed build
