"""What Exim needs of an export: an ACL in its own language, and tables that it looks up by hash."""

import base64
import hashlib
import ipaddress
from collections import defaultdict
from collections.abc import Iterator
from datetime import date
from math import ceil
from typing import Final
from urllib.parse import quote

import polars as pl

from enforcement.builds import Evidence
from enforcement.catalogue import PRODUCTS
from enforcement.export.exim_acl import ACL
from enforcement.export.tables import Tables
from enforcement.export.target import FAILURE_REPLY
from enforcement.policy import OnFailure, Window
from enforcement.verdict import Verdict, reply

_ROWS_A_TABLE: Final = 100  # on average, however many rows there are: a look-up takes the same time
_NEVER: Final = 99_999_999  # a day that does not come
_EPOCH: Final = date(1970, 1, 1)


def exim_files(tables: Tables) -> dict[str, bytes]:
    """Write the files of an export for Exim, name → content; the same tables give the same bytes."""
    rows = dict(_rows(tables))
    n_tables = max(ceil(len(rows) / _ROWS_A_TABLE), 1)
    contents: dict[str, list[str]] = {str(number): [] for number in range(n_tables)}
    for key, value in sorted(rows.items()):
        contents[table_of(key, n_tables)].append(f"{key}={value}")
    files = {name: [f"serial={tables.serial}", *content] for name, content in contents.items()}
    files["meta"] = _meta(tables, n_tables)
    return {
        "exim/enforcement.acl": ACL.encode(),
        "exim/enforcement.conf": _macros(tables).encode(),
        "exim/example.conf": EXAMPLE.encode(),
    } | {f"exim/tables/{name}": _table(name, content) for name, content in files.items()}


def table_of(key: str, n_tables: int) -> str:
    """Give the table that a row is in.

    >>> table_of("b:15.1.2507.6", 43)
    '38'
    """
    return str(int(_md5(key)[:7], 16) % n_tables)


def _table(name: str, rows: list[str]) -> bytes:
    """Write a table with its checksum, which knows the name too: a table in another's place is damage."""
    content = "\n".join(rows) + "\n"
    return f"{_md5(f'{name} {content}')} {content}".encode()


def _md5(text: str) -> str:
    # It finds accidents; whoever can write the tables could write the sum. Exim has it wherever it is built.
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _meta(tables: Tables, n_tables: int) -> list[str]:
    """Write what holds for all messages. Texts are in base64: nothing of them is ever expanded."""
    policy, service = tables.policy, tables.policy.export.service_name
    networks = [ipaddress.ip_network(key) for key in tables.identities if "/" in key]
    lengths = {
        version: ",".join(
            str(length)
            for length in sorted({net.prefixlen for net in networks if net.version == version}, reverse=True)
        )
        for version in (4, 6)
    }
    rejected = _around(Verdict.REJECT, service)
    deferred = _around(Verdict.DEFER, service)
    return [
        "format=1",
        f"serial={tables.serial}",
        f"valid_from={_day(tables.valid_from)}",
        f"not_after={_day(tables.not_after)}",
        f"on_failure={policy.export.on_failure}",
        f"tables={n_tables}",
        f"certificates={int(any(key.startswith('sha256:') for key in tables.identities))}",
        f"addresses={int(any(_is_address(key) for key in tables.identities))}",
        f'networks4="{lengths[4]}"',  # quoted: of an empty value Exim would take the next line
        f'networks6="{lengths[6]}"',
        "cohorts=" + "/".join(f"{_day(cohort.starts_on)},{quote(cohort.name, safe='')}" for cohort in policy.cohorts),
        f"reject={_base64(rejected[0])}",
        f"defer={_base64(deferred[0])}",
        f"end={_base64(rejected[1])}",
    ]


def _around(verdict: Verdict, service: str) -> tuple[str, str]:
    """Give what a reply says before and behind its minutes."""
    said = reply(verdict, throttle=0, block=0, service=service)
    assert said is not None
    head, _, tail = said.text.rpartition("0")
    return head, tail


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _day(day: date | None) -> int:
    """Count the days since 1970, as Exim does from its clock."""
    return _NEVER if day is None else (day - _EPOCH).days


def _rows(tables: Tables) -> Iterator[tuple[str, str]]:
    """Give all rows: c, a and n: certificate, address and network → server; b: build; s: server."""
    for key, server in tables.identities.items():
        yield _identity_key(key), server
    for build, product, evidence, since in tables.builds.select(
        "build", "product", "evidence", "vulnerable_from"
    ).iter_rows():
        if evidence not in (Evidence.UNKNOWN, Evidence.CLOUD):
            number = PRODUCTS.index(product) + 1 if product in PRODUCTS else len(PRODUCTS) + 1
            yield f"b:{build}", f"{number},{_day(since)}"
    yield from _server_rows(tables)


def _server_rows(tables: Tables) -> Iterator[tuple[str, str]]:
    """Give a row for each server: its cohorts by product, its offset, and its stages while the export is valid."""
    number = {cohort.name: index for index, cohort in enumerate(tables.policy.cohorts, start=1)}
    spread = tables.policy.window is Window.SPREAD
    spans: defaultdict[str, list[str]] = defaultdict(list)
    coming = tables.calendar.filter(
        (pl.col("from_on") <= tables.not_after)
        & (pl.col("until_on").is_null() | (pl.col("until_on") > tables.valid_from))
    )
    columns = ("server", "cohort", "from_on", "until_on", "stage", "block", "throttle", "running")
    for server, cohort, start, end, stage, block, throttle, running in coming.select(columns).iter_rows():
        spans[server].append(f"{number[cohort]},{_day(start)},{_day(end)},{stage},{block},{throttle},{int(running)}")
    for server, offset, cohorts in tables.servers.select("server", "minute_offset", "cohorts").iter_rows():
        taken = {each["product"]: number[each["cohort"]] for each in cohorts}
        by_product = "/".join(str(taken.get(product, "")) for product in PRODUCTS)
        yield f"s:{_written_in_full(server)}", f"{by_product}|{offset if spread else 0}|{';'.join(spans[server])}"


def _identity_key(identity: str) -> str:
    if identity.startswith("sha256:"):
        return f"c:{identity.removeprefix('sha256:')}"
    network = ipaddress.ip_network(identity)
    return f"{'a' if _is_address(identity) else 'n'}:{_masked(network)}"


def _is_address(identity: str) -> bool:
    return not identity.startswith("sha256:") and "/" not in identity


def _masked(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str:
    """Write a network as Exim's `mask` does: IPv6 in full, with dots."""
    return str(network) if network.version == 4 else f"{_in_full(network.network_address)}/{network.prefixlen}"


def _in_full(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    return address.exploded.replace(":", ".")


def _written_in_full(server: str) -> str:
    """Write a server that is an IPv6 address in full, so that it does not matter who shortens it how.

    >>> _written_in_full("2001:db8::1")
    '2001.0db8.0000.0000.0000.0000.0000.0001/128'
    """
    if ":" not in server or "%" in server:
        return server
    return f"{_in_full(ipaddress.IPv6Address(server))}/128"


def _macros(tables: Tables) -> str:
    """Write what Exim must know even when no table can be read."""
    on_failure = OnFailure(tables.policy.export.on_failure)
    return f"""# Written by `enforcement export`. Include it in the main part, with the folder set before:
#   ENFORCEMENT_DIR = /etc/enforcement/exim
#   .include ENFORCEMENT_DIR/enforcement.conf
# What is done when the tables cannot be read at all; while they can be, they say it themselves.
ENFORCEMENT_ON_FAILURE = {on_failure}
ENFORCEMENT_FAILURE_REPLY = {FAILURE_REPLY.text}
"""


EXAMPLE: Final = """\
# A whole configuration around the export that takes mail for one domain and throws it away, to try the export:
#   exim -C example.conf -bd -d+acl        (in front of a test network, never on the internet)
ENFORCEMENT_DIR = /etc/enforcement/exim
.include ENFORCEMENT_DIR/enforcement.conf

primary_hostname = mx.lab.test
daemon_smtp_ports = 2525
local_interfaces = 127.0.0.1
tls_advertise_hosts =
host_lookup =
rfc1413_query_timeout = 0s
domainlist ours = lab.test
acl_smtp_rcpt = check_rcpt
acl_smtp_data = check_data

begin acl
.include ENFORCEMENT_DIR/enforcement.acl

check_rcpt:
  accept  domains = +ours
  deny    message = relay not permitted

check_data:
  require acl = enforcement_data
  accept

begin routers
all:
  driver = redirect
  data = :blackhole:

begin transports
"""
