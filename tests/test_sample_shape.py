"""The figures of the made-up fleet: each with a source, each checked."""

import pytest

from enforcement.builds import Build, Evidence
from enforcement.sample_shape import parse_shape
from enforcement.shipped import DATA, load_catalogue, load_sample_shape


def test_the_ids_of_the_file_are_what_the_file_says() -> None:
    """Each id seen in headers lies between two releases, and each unknown one in no line."""
    catalogue, shape = load_catalogue(), load_sample_shape()
    for text in (*shape.ids.smtp, *shape.ids.mapi):
        assert catalogue.place(Build.parse(text)).evidence is Evidence.ROUNDED_UP, text
    for text in filter(None, shape.ids.unknown):
        assert catalogue.place(Build.parse(text)).evidence is Evidence.UNKNOWN, text


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ('"Exchange Server SE" = 0.19', '"Exchange Server SE" = 0.2', "products.shares: the shares add up to 1.01"),
        ('"Exchange Server SE" = 0.19', '"Exchange Server 5" = 0.19', "unknown product 'Exchange Server 5'"),
        ('"direct" = 0.6', '"post" = 0.6', r"unknown route 'post' \(known: direct, relayed, through cloud\)"),
        ("[0, 26, 52]", "[0, 52, 26]", r"expected as many, rising from 0"),
        ("[0, 26, 52]", "[0, 26]", r"expected as many, rising from 0"),
        ("tenant_shape = 3.27", "tenant_shape = 0", "patching.tenant_shape: Input should be greater than 0"),
        ("tenant_shape = 3.27", "tenant_shape = nan", "patching.tenant_shape: Input should be a finite number"),
        ("never_share", "never_shares", "patching.never_shares: Extra inputs are not permitted"),
        ('"8.1.263.0"', '"8.1.263"', "ids.smtp.0: not a build number: '8.1.263'"),
        ("share = 0.38", "share = 0.39", "tenants.zones: the shares add up to 1.01"),
        ("[products]", "[products", "sample.toml: not TOML"),
    ],
)
def test_a_wrong_figure_is_named(old: str, new: str, line: str) -> None:
    """An error in the figures names the file, the key, and what was expected."""
    text = (DATA / "sample.toml").read_text(encoding="utf-8")
    assert old in text
    with pytest.raises(ValueError, match=line):
        parse_shape(text.replace(old, new), source="sample.toml")


def test_every_figure_has_a_source() -> None:
    """Each value of the file stands below or beside a comment that says where it is from."""
    covered, bare = False, []
    for line in (DATA / "sample.toml").read_text(encoding="utf-8").splitlines():
        covered = line.startswith("#") or (covered and bool(line.strip()) and not line.startswith("["))
        if "=" in line and not line.startswith("#") and not covered and "#" not in line:
            bare.append(line)
    assert not bare
