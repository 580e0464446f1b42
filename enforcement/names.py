"""Names from outside: a server's in one spelling, the tenant it belongs to, and excerpts fit to keep."""

import ipaddress
import re
import zlib
from collections.abc import Callable, Iterable
from functools import cache
from hashlib import sha256
from typing import Final

from publicsuffixlist import PublicSuffixList

_LONGEST_NAME: Final = 255  # octets of a domain name: RFC 1035, 2.3.4
_LONGEST_EXCERPT: Final = 200
_SCANNED: Final = 1_000  # an excerpt never needs more of the text than this
_SHOWN: Final = 80

_EXPECTED: Final = "expected letters, digits, '-', '_', and single dots between them"
# Underscores are in no host name of RFC 952, but in many an internal one.
_HOST = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*", re.ASCII)
_PLAIN_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,98}[a-z0-9])?", re.ASCII)
# Names that Windows gives to devices, whatever follows their first dot.
_DEVICES: Final = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.ASCII)
_NOT_PLAIN: Final = re.compile(r"[^a-z0-9]+", re.ASCII)
_SCOPE = re.compile(r"[a-z0-9_.-]{1,32}", re.ASCII)
# Each run of characters is tried once, from its start: no text makes this slow.
_LOCAL_PART = re.compile(r"""(?:"[^"]*+"|(?<![^\s@<>()\[\],;:"'])[^\s@<>()\[\],;:"']++)@""")
_LAST_RUN = re.compile(r"""[^\s@<>()\[\],;:"']++\Z""")


def server_name(text: str) -> str:
    """Give a server's name in its one spelling: lower case, no dot at the end; an address without brackets.

    >>> server_name("MAIL.Example.COM.")
    'mail.example.com'
    >>> server_name("[2001:DB8::1]")
    '2001:db8::1'
    >>> server_name("mail example")
    Traceback (most recent call last):
    ValueError: not a server name: 'mail example' (expected letters, digits, '-', '_', and single dots between them)
    """
    name = text.strip(" \t").lower().removesuffix(".")
    if not name:
        raise ValueError("no server name")
    if len(name) > _LONGEST_NAME:
        raise ValueError(f"server name of {len(name)} characters: {shown(text)} (expected at most {_LONGEST_NAME})")
    if not text.isascii():  # lower() makes an ASCII letter of some others
        raise ValueError(f"not a server name: {shown(text)} ({_EXPECTED})")
    if _HOST.fullmatch(name):
        return name
    if ":" in name:
        address = name.removeprefix("[").removesuffix("]").removeprefix("ipv6:")
        scope = address.partition("%")[2]
        try:
            if not scope or _SCOPE.fullmatch(scope):
                return str(ipaddress.IPv6Address(address))
        except ValueError:
            pass  # said below, with what was expected
    elif name.startswith("[") and name.endswith("]") and _HOST.fullmatch(name[1:-1]):
        return name[1:-1]
    raise ValueError(f"not a server name: {shown(text)} ({_EXPECTED})")


def tenant_name(text: str) -> str:
    """Give a tenant's name in its one spelling: lower case, no dot at the end, no control characters.

    >>> tenant_name("Contoso.Example.")
    'contoso.example'
    """
    name = text.strip(" \t").lower().removesuffix(".")
    if not name:
        raise ValueError("no tenant name")
    if len(name) > _LONGEST_NAME:
        raise ValueError(f"tenant name of {len(name)} characters: {shown(text)} (expected at most {_LONGEST_NAME})")
    if not name.isprintable():
        raise ValueError(f"not a tenant name: {shown(text)} (expected printable characters only)")
    return name


def file_name(tenant: str) -> str:
    """Give a tenant's name as a file may be called anywhere, another one for each tenant.

    >>> file_name("contoso.example"), file_name("aux.example")
    ('contoso.example', 'aux-example_e95bd6a63021')
    >>> file_name("../../etc/passwd")
    'etc-passwd_3754d6cb3a38'
    """
    if _PLAIN_NAME.fullmatch(tenant) and not _DEVICES.fullmatch(tenant) and ".." not in tenant:
        return tenant
    # A plain name has no underscore: nobody can choose a name that is another one's.
    plain = _NOT_PLAIN.sub("-", tenant.lower()).strip("-")[:40] or "tenant"
    return f"{plain}_{sha256(tenant.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"


def minute_offset(server: str) -> int:
    """Give the minute of the hour at which a server's window starts under `spread`.

    >>> minute_offset("mail.contoso.example")
    16
    """
    return zlib.crc32(server.encode()) % 60


def is_single_label(server: str) -> bool:
    """Tell whether a server is named without any domain, so that nothing says whose it is.

    >>> is_single_label("ex01"), is_single_label("ex01.contoso.com"), is_single_label("2001:db8::1")
    (True, False, False)
    """
    return "." not in server and ":" not in server


def tenant_of(server: str) -> str:
    """Give the organisational domain of a server by the public suffix list; an address or a single label is its own.

    >>> tenant_of("mail.contoso.co.uk"), tenant_of("ex01.corp.local"), tenant_of("mailhost"), tenant_of("192.0.2.1")
    ('contoso.co.uk', 'corp.local', 'mailhost', '192.0.2.1')
    """
    if ":" in server or server.rpartition(".")[2].isdecimal():
        return server
    return _suffixes().privatesuffix(server) or server


@cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList()


def shown(text: str) -> str:
    r"""Quote a bad value for a message: at most 80 characters, control characters escaped.

    >>> shown("a\nb")
    "'a\\nb'"
    """
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")


def printable(text: str) -> str:
    r"""Escape what a terminal or a database might take amiss: control characters, lone surrogates.

    >>> printable("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def excerpt(text: str) -> str:
    r"""Cut a text to one line of at most 200 characters without the local parts of addresses.

    >>> excerpt("from a by b for <some.one@example.com>;\n Mon, 1 Jan\x00")
    'from a by b for <…@example.com>; Mon, 1 Jan\\x00'
    """
    head = text[:_SCANNED]
    if len(text) > _SCANNED:
        # What is cut may have been the rest of an address.
        head = head if head.count('"') % 2 == 0 else head[: head.rindex('"')]
        head = _LAST_RUN.sub("", head) + "…"
    line = printable(" ".join((_LOCAL_PART.sub("…@", head) if "@" in head else head).split()))
    return line if len(line) <= _LONGEST_EXCERPT else line[: _LONGEST_EXCERPT - 1] + "…"


def read_each(values: Iterable[str], read: Callable[[str], str]) -> tuple[dict[str, str], dict[str, str]]:
    """Read each distinct value once: what it means, and for those that cannot be read why.

    >>> read_each(["A.example", "a b"], server_name)[0]
    {'A.example': 'a.example'}
    """
    meant: dict[str, str] = {}
    reasons: dict[str, str] = {}
    for value in values:
        try:
            meant[value] = read(value)
        except ValueError as problem:
            reasons[value] = str(problem)
    return meant, reasons
