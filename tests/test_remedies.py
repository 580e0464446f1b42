"""What to install: the lowest that lasts longest in each line, else what of later products is in support."""

from datetime import date

from enforcement.builds import Build
from enforcement.remedies import Remedy, recommended
from enforcement.shipped import load_catalogue

CATALOGUE = load_catalogue()
OF_BUILD = {str(release.build): release for release in CATALOGUE.releases}
JUNE = date(2024, 6, 9)


def remedy(build: str, until: date | None = None, *, is_supported: bool = True) -> Remedy:
    return Remedy(release=OF_BUILD[build], accepted_until=until, is_supported=is_supported)


def builds(found: tuple[Remedy, ...]) -> list[str]:
    return [str(each.release.build) for each in found]


def test_of_those_that_last_as_long_the_nearest_is_named() -> None:
    build, nearest = Build.parse("15.1.2507.6"), remedy("15.1.2507.34", JUNE)
    assert builds(recommended(build, CATALOGUE, (nearest, remedy("15.1.2507.35", JUNE)))) == ["15.1.2507.34"]
    assert builds(recommended(build, CATALOGUE, (nearest, remedy("15.1.2507.35")))) == ["15.1.2507.35"]


def test_nothing_below_what_a_build_proves_is_named() -> None:
    build = Build.parse("15.1.2507.35")
    known = (remedy("15.1.2507.34"), remedy("15.1.2507.35", JUNE))
    assert builds(recommended(build, CATALOGUE, known)) == ["15.1.2507.35"]


def test_nothing_below_a_build_that_is_newer_than_its_line_is_named() -> None:
    """CU14 and its update are accepted too, and would be a step back from a build of CU15 that nobody knows."""
    known = (remedy("15.2.1544.4"), remedy("15.2.1544.11"), remedy("15.2.1748.10", JUNE))
    assert builds(recommended(Build.parse("15.2.1748.65000"), CATALOGUE, (*known, remedy("15.2.2562.17")))) == [
        "15.2.2562.17"
    ]


def test_to_move_to_is_what_is_in_support() -> None:
    """Of 2010 nothing is accepted: 2013 is out of support, so 2016 and 2019 are named; with nothing else, 2013 is."""
    build = Build.parse("14.3.513.0")
    old = remedy("15.0.1497.48", is_supported=False)
    newer = (remedy("15.1.2507.35"), remedy("15.2.1118.40"), remedy("15.2.1258.28"))
    assert builds(recommended(build, CATALOGUE, (old, *newer))) == ["15.1.2507.35", "15.2.1258.28"]
    assert builds(recommended(build, CATALOGUE, (old,))) == ["15.0.1497.48"]
    assert recommended(build, CATALOGUE, ()) == ()
