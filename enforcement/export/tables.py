"""The tables that every target looks up: the servers with their cohorts and calendar, the builds, the identities."""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final, NamedTuple, TypeAlias

import polars as pl

from enforcement.builds import Hop
from enforcement.catalogue import PRODUCTS, Catalogue
from enforcement.export.calendar import calendar, last_day
from enforcement.history import History
from enforcement.names import server_name, shown
from enforcement.policy import Policy
from enforcement.received import Route
from enforcement.replay import Replay
from enforcement.schema import BUILDS
from enforcement.standing import standings

CERTIFICATE: Final = "sha256:"  # what the identity of a certificate begins with
_FINGERPRINT: Final = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_MAPPED: Final = 96  # bits before an IPv4 address inside an IPv6 one: RFC 4291, 2.5.5.2

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """What an export knows, for each target to write in its own form.

    calendar: as `calendar` gives it; servers: server, tenant, minute_offset, cohorts (list of structs of product and
    cohort, of those cohorts that take the tenant's servers in); builds: build, product, evidence, vulnerable_from,
    rule, as an smtp hop shows it; identities: an address, a network or a certificate's `sha256:…` → its server.
    """

    policy: Policy
    serial: int
    as_of: date
    not_after: date
    calendar: pl.DataFrame
    servers: pl.DataFrame
    builds: pl.DataFrame
    identities: Mapping[str, str]

    @property
    def valid_from(self) -> date:
        """The first day on which the export decides anything."""
        return self.as_of + timedelta(days=1)


class Edition(NamedTuple):
    """Which export it is: the last day of the history that it rests on, and its number, which grows."""

    as_of: date
    serial: int


def tables(
    result: Replay, history: History, catalogue: Catalogue, edition: Edition, identities: Mapping[str, str]
) -> Tables:
    """Gather the tables of an export from a replay of a history that ends on the edition's day.

    Raises ValueError for a policy that no target could carry out, and for an identity of a server nobody has seen.
    """
    policy, servers = result.policy, history.servers
    if Route.DIRECT not in policy.routes:
        raise ValueError(
            f"routes = {[str(route) for route in policy.routes]}: mail servers enforce direct hand-overs only "
            '(expected "direct" among them)'
        )
    known = set(servers["server"])
    unseen = sorted({server for server in identities.values() if server not in known})
    if unseen:
        raise ValueError(
            f"servers of the identities that are not in the store: {len(unseen)}, the first {shown(unseen[0])} "
            "(expected names that `fleet` knows)"
        )
    return Tables(
        policy=policy,
        serial=edition.serial,
        as_of=edition.as_of,
        not_after=last_day(edition.as_of, policy),
        calendar=calendar(result.course.spans, servers, policy, as_of=edition.as_of),
        servers=with_cohorts(servers, policy, PRODUCTS),
        builds=build_table(history.builds, policy, catalogue),
        identities=identities,
    )


def with_cohorts(servers: pl.DataFrame, policy: Policy, products: Sequence[str]) -> pl.DataFrame:
    """Say for each server which cohort takes it in with each product: the first that matches, if one does.

    >>> from enforcement.schema import SERVERS
    >>> from enforcement.shipped import load_policy
    >>> servers = pl.DataFrame([(1, "mx.t.example", "t.example", 7)], schema=SERVERS, orient="row")
    >>> with_cohorts(servers, load_policy("ninety-days"), ["Exchange Server 2016"])["cohorts"].to_list()
    [[{'product': 'Exchange Server 2016', 'cohort': 'all'}]]
    """
    rows = [
        (tenant, [{"product": product, "cohort": name} for product, name in _cohorts_of(tenant, policy, products)])
        for tenant in servers["tenant"].unique()
    ]
    cohort = pl.Struct({"product": pl.String, "cohort": pl.String})
    taken = pl.DataFrame(rows, schema={"tenant": pl.String, "cohorts": pl.List(cohort)}, orient="row")
    return (
        servers.join(taken, on="tenant", how="left")
        .select("server", "tenant", "minute_offset", "cohorts")
        .sort("server")
    )


def _cohorts_of(tenant: str, policy: Policy, products: Sequence[str]) -> list[tuple[str, str]]:
    taken = [(product, policy.cohort_for(product, tenant)) for product in products]
    return [(product, cohort.name) for product, cohort in taken if cohort is not None]


def build_table(builds: pl.DataFrame, policy: Policy, catalogue: Catalogue) -> pl.DataFrame:
    """Say of every build of the catalogue and every one of BUILDS what an smtp hop of it proves, and since when.

    Columns: build, product, evidence, vulnerable_from, rule; a build once, whatever hops showed it.

    >>> from enforcement.shipped import load_catalogue, load_policy
    >>> seen = pl.DataFrame([(1, "15.1.2507.7", "mapi")], schema=BUILDS, orient="row")
    >>> table = build_table(seen, load_policy("ninety-days"), load_catalogue())
    >>> table.filter(build="15.1.2507.7").select("product", "evidence").row(0)
    ('Exchange Server 2016', 'rounded up')
    """
    names = {str(release.build) for release in catalogue.releases} | set(builds["build"].drop_nulls())
    every = pl.DataFrame(
        [(number, name, str(Hop.SMTP)) for number, name in enumerate(sorted(names))], schema=BUILDS, orient="row"
    )
    proven = standings(every, catalogue, policy)
    return proven.select("build", "product", "evidence", "vulnerable_from", "rule")


def read_identities(text: str, *, source: str) -> dict[str, str]:
    r"""Read an operator's file of identities: lines of `identity,server` under that header.

    An identity is an address, a network, or the SHA-256 of a client certificate.

    >>> read_identities("identity,server\n192.0.2.0/24,MX.t.example\n", source="ids.csv")
    {'192.0.2.0/24': 'mx.t.example'}
    >>> read_identities("identity,server\n::ffff:192.0.2.1,mx.t.example\n", source="ids.csv")
    {'192.0.2.1': 'mx.t.example'}
    >>> read_identities("identity,server\n192.0.2.1/24,mx.t.example\n", source="ids.csv")
    Traceback (most recent call last):
    ValueError: ids.csv line 2: '192.0.2.1/24' has host bits set (expected a network like 192.0.2.0/24)
    """
    lines = text.removeprefix("\ufeff").splitlines()
    if not lines or [part.strip() for part in lines[0].split(",")] != ["identity", "server"]:
        raise ValueError(f"{source}: expected a first line `identity,server`")
    found: dict[str, str] = {}
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        identity, _, server = line.partition(",")
        try:
            key, name = _identity(identity.strip()), server_name(server)
        except ValueError as problem:
            raise ValueError(f"{source} line {number}: {problem}") from None
        if found.setdefault(key, name) != name:
            raise ValueError(f"{source} line {number}: {key} is {found[key]} above, {name} here (expected one server)")
    return found


def _identity(text: str) -> str:
    if text.lower().startswith("sha256:"):
        fingerprint = text.lower().replace(":", "").replace("sha256", "sha256:", 1)
        if not _FINGERPRINT.fullmatch(fingerprint):
            raise ValueError(f"{shown(text)} (expected sha256: and 64 hexadecimal digits)")
        return fingerprint
    try:
        return _one_spelling(ipaddress.ip_network(text) if "/" in text else ipaddress.ip_address(text))
    except ValueError as problem:
        if "host bits" in str(problem):
            network = ipaddress.ip_network(text, strict=False)
            raise ValueError(f"{shown(text)} has host bits set (expected a network like {network})") from None
        raise ValueError(f"{shown(text)} (expected an address, a network, or sha256: and 64 digits)") from None


def _one_spelling(found: _Address | _Network) -> str:
    """Write an address or a network as a target meets it: IPv4 never inside IPv6, a network of one as its address.

    >>> [_one_spelling(ipaddress.ip_network(text)) for text in ("::ffff:192.0.2.0/120", "192.0.2.7/32")]
    ['192.0.2.0/24', '192.0.2.7']
    """
    if isinstance(found, ipaddress.IPv6Address | ipaddress.IPv4Address):
        if found.version == 6 and found.scope_id is not None:
            raise ValueError("a scope")  # no target tells one
        return str(found.ipv4_mapped or found) if found.version == 6 else str(found)
    inside = found.network_address.ipv4_mapped if found.version == 6 else None
    if inside is not None and found.prefixlen >= _MAPPED:
        return _one_spelling(ipaddress.IPv4Network((inside, found.prefixlen - _MAPPED)))
    return str(found.network_address) if found.prefixlen == found.max_prefixlen else str(found)
