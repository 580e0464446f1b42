"""Names from outside get one spelling or a reason; excerpts keep no one's address."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enforcement.names import excerpt, printable, read_each, server_name, shown, tenant_name, tenant_of


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("MAIL.Example.COM", "mail.example.com"),
        ("mail.example.com.", "mail.example.com"),
        ("  ex_01.corp.local\t", "ex_01.corp.local"),
        ("exch-01", "exch-01"),
        ("192.0.2.1", "192.0.2.1"),
        ("[192.0.2.1]", "192.0.2.1"),
        ("[IPv6:2001:DB8:0::1]", "2001:db8::1"),
        ("fe80::1%7", "fe80::1%7"),
        ("a" * 255, "a" * 255),
    ],
)
def test_a_server_has_one_spelling(text: str, name: str) -> None:
    """Case, a dot at the end, blanks around and brackets make no other server."""
    assert server_name(text) == name


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no server name"),
        (" . ", "no server name"),
        ("a" * 256, "256 characters"),
        ("a" * 2000, "2000 characters"),
        ("mail example.com", "not a server name: 'mail example.com'"),
        ('mail".example.com', "not a server name"),
        ("mail'.example.com", "not a server name"),
        ("mail\x00.example.com", r"'mail\\x00.example.com'"),
        ("mail\n.example.com", r"'mail\\n.example.com'"),
        ("mail..example.com", "single dots"),
        (".example.com", "single dots"),
        ("example.com..", "single dots"),
        ("<script>", "not a server name"),
        ("mäil.example.com", "not a server name"),
        ("\u212aelvin.example", "not a server name"),  # the Kelvin sign is k in lower case
        ("\udc80.example", r"\\udc80"),
        ("fe80::1%<b>", "not a server name"),
        ("1:2", "not a server name"),
    ],
)
def test_what_is_no_server_name_says_why(text: str, reason: str) -> None:
    """An empty, long, or odd name is refused with a reason on one line of moderate length."""
    with pytest.raises(ValueError, match=reason) as raised:
        server_name(text)
    assert len(str(raised.value)) < 250
    assert str(raised.value).isprintable()


@given(st.text(max_size=300))
def test_a_spelling_is_its_own_spelling(text: str) -> None:
    """A name that has been read reads as itself, is plain ASCII and has no capital letter."""
    meant, reasons = read_each([text], server_name)
    assert len(meant) + len(reasons) == 1
    for name in meant.values():
        assert server_name(name) == name
        assert name.isascii()
        assert name == name.lower()
        assert not set(name) & set(" \t\r\n\"'`<>\\|,;()")


@pytest.mark.parametrize(
    ("server", "tenant"),
    [
        ("mail.contoso.com", "contoso.com"),
        ("a.b.contoso.co.uk", "contoso.co.uk"),
        ("co.uk", "co.uk"),
        ("ex01.ad.contoso.local", "contoso.local"),
        ("ex01", "ex01"),
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
    ],
)
def test_the_tenant_of_a_server(server: str, tenant: str) -> None:
    """The organisational domain; internal names: the last two labels; addresses and single labels: themselves."""
    assert tenant_of(server) == tenant


def test_tenants_have_one_spelling() -> None:
    """A tenant may be called what an import likes, in lower case and printable."""
    assert tenant_name(" Contoso Ltd. ") == "contoso ltd"
    for bad in ("", ".", "a" * 256, "a\x1b[31m", "a\u2028b"):
        with pytest.raises(ValueError, match="tenant"):
            tenant_name(bad)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("for <some.one+tag@example.com>; Mon", "for <…@example.com>; Mon"),
        ('for "some one"@example.com; Mon', "for …@example.com; Mon"),
        ("a@b.example,c@d.example", "…@b.example,…@d.example"),
        ("envelope-from=someone=there@example.com", "…@example.com"),
        ("folded\r\n\tline  of\x00text", r"folded line of\x00text"),
        ("\udcff octets", r"\udcff octets"),
        ("", ""),
    ],
)
def test_an_excerpt_keeps_no_local_part(text: str, kept: str) -> None:
    """Local parts are masked, lines joined, control characters escaped."""
    assert excerpt(text) == kept


@given(st.text(max_size=2000))
def test_an_excerpt_is_a_short_printable_line(text: str) -> None:
    """Whatever came in, an excerpt has at most 200 characters and can be shown and stored."""
    kept = excerpt(text)
    assert len(kept) <= 200
    assert kept.isprintable()
    assert kept.encode().decode() == kept


@given(st.text(alphabet="ab.\"' <>@\\", max_size=30), st.integers(0, 1100))
def test_no_local_part_slips_through_at_the_cut(before: str, blanks: int) -> None:
    """An address is masked wherever it stands, also where the text is cut."""
    assert "secret" not in excerpt(before + " " * blanks + " secret@example.com")


def test_hostile_text_is_cut_quickly() -> None:
    """A long line of what could be local parts takes no time that grows with its square."""
    started_at = time.perf_counter()
    for text in ("a" * 5_000_000, '"' * 5_000_000, "a@" * 2_500_000, '"a' * 2_500_000):
        excerpt(text)
    assert time.perf_counter() - started_at < 1


def test_bad_values_are_shown_cut_and_escaped() -> None:
    """A message repeats a bad value, at most 80 characters of it, on one line."""
    assert shown("a\x1b]0;title\x07") == r"'a\x1b]0;title\x07'"
    assert len(shown("x" * 10_000)) < 90
    assert printable("a\tb") == r"a\tb"
