"""Cases that every target must answer as the model does: what a peer sends, when, and what it must be told."""

import ipaddress
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from functools import cached_property
from typing import Any, Final

import polars as pl

from enforcement.builds import Evidence, Hop
from enforcement.catalogue import Catalogue
from enforcement.course import Course
from enforcement.decision import State, decide, still_on
from enforcement.explain import Seen, state_of
from enforcement.export.tables import Tables
from enforcement.export.target import Reason, direct_hand_over
from enforcement.names import tenant_of
from enforcement.received import Route, Stamp

# Addresses of documentation (RFC 5737, RFC 3849), and one that no network around a server is likely to hold.
_PEERS: Final = ("192.0.2.250", "198.51.100.250", "203.0.113.250", "2001:db8:ffff::250", "240.0.0.1", "100::1")
_UNKNOWN_SERVER: Final = "unknown-server.enforcement.test"
_UNKNOWN_BUILD: Final = "15.1.65535.65535"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What a peer sends: its Received lines, topmost first, its address, its certificate's SHA-256, and the time."""

    at: datetime
    received: tuple[str, ...]
    ip: str = ""
    certificate: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What it must be told, and why; code, enhanced code and text are None when it is accepted."""

    verdict: str
    code: int | None = None
    enhanced_code: str | None = None
    text: str | None = None
    reason: str
    stage: int | None = None


@dataclass(frozen=True, kw_only=True)
class Oracle:
    """What the model says of a case, worked out from the history and not from the tables that targets look up."""

    known: Tables
    servers: pl.DataFrame  # SERVERS
    builds: frozenset[str]
    way: Course
    catalogue: Catalogue

    @cached_property
    def _rows(self) -> Mapping[str, dict[str, Any]]:
        return {row["server"]: row for row in self.servers.iter_rows(named=True)}

    @cached_property
    def _states(self) -> dict[tuple[str | None, str, date], State]:
        return {}

    def expected(self, case: Case) -> tuple[Expected, Stamp | Reason]:
        """Say what a case must be answered, and what its topmost line says."""
        day, found = case.at.date(), direct_hand_over(case.received)
        if day > self.known.not_after:
            return _accepted(Reason.EXPIRED), found
        if day < self.known.valid_from:
            return _accepted(Reason.NOT_YET_VALID), found
        if isinstance(found, Reason):
            return _accepted(found), found
        server = self.identified(case.ip, case.certificate) or found.server
        return self._judged(server, None if found.build is None else str(found.build), case.at), found

    def _judged(self, server: str | None, build: str | None, at: datetime) -> Expected:
        if build is None or build not in self.builds:
            return _accepted(Reason.UNKNOWN_BUILD)
        day = at.date()
        state = self._state(server, build, day)
        reasons = (
            (state.evidence in (Evidence.UNKNOWN, Evidence.CLOUD), Reason.UNKNOWN_BUILD),
            (state.vulnerable_from is None or day < state.vulnerable_from, Reason.NOT_VULNERABLE),
            (server not in self._rows, Reason.NEW_DETECTION),
            (state.cohort_starts_on is None or day < state.cohort_starts_on, Reason.NO_COHORT),
            (state.spell_from_on is None, Reason.NEW_DETECTION),
        )
        reason = next((reason for holds, reason in reasons if holds), None)
        if reason is not None:
            return _accepted(reason)
        said = decide(state, self.known.policy, at)
        return Expected(
            verdict=str(said.verdict),
            code=said.code,
            enhanced_code=said.enhanced_code,
            text=said.text,
            reason=str(Reason.STANDING_STILL if still_on(state, day) else Reason.ENFORCED),
            stage=said.stage,
        )

    def _state(self, server: str | None, build: str, day: date) -> State:
        key = (server, build, day)
        if key not in self._states:
            stranger = {"server_id": -1, "server": server or "", "tenant": tenant_of(server or ""), "minute_offset": 0}
            seen = Seen(
                server=self._rows.get(server or "", stranger), build=build, hop=Hop.SMTP, route=str(Route.DIRECT)
            )
            at = datetime.combine(day, time())
            self._states[key] = state_of(seen, self.way, self.known.policy, self.catalogue, at)
        return self._states[key]

    def identified(self, ip: str, certificate: str | None = None) -> str | None:
        """Find the server of a certificate, an address, or the smallest network around it."""
        identities = self.known.identities
        if certificate and (named := identities.get(f"sha256:{certificate}")):
            return named
        if ip in identities:
            return identities[ip]
        address = ipaddress.ip_address(ip)
        around = [
            (network.num_addresses, server)
            for network, server in self._networks
            if network.version == address.version and address in network
        ]
        return min(around)[1] if around else None

    @cached_property
    def _networks(self) -> list[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, str]]:
        return [(ipaddress.ip_network(key), server) for key, server in self.known.identities.items() if "/" in key]

    @cached_property
    def stranger(self) -> str:
        """An address that no identity has, so that the name in the header counts (or else the last one tried)."""
        return next((ip for ip in _PEERS if self.identified(ip) is None), _PEERS[-1])


def _accepted(reason: Reason) -> Expected:
    return Expected(verdict="accept", reason=str(reason))


def vectors_jsonl(oracle: Oracle) -> bytes:
    """Write the cases of an export with what each must be answered, a JSON object a line."""
    return b"".join(_line(number, case, oracle) for number, case in enumerate(cases(oracle), start=1))


def _line(number: int, case: Case, oracle: Oracle) -> bytes:
    expected, found = oracle.expected(case)
    stamp = None if isinstance(found, Reason) else found
    content = {
        "id": number,
        "at": f"{case.at:%Y-%m-%dT%H:%M:%SZ}",
        "received": case.received,
        "ip": case.ip,
        "certificate": case.certificate,
        "server": stamp and stamp.server,
        "build": None if stamp is None or stamp.build is None else str(stamp.build),
        "direct": stamp is not None,
        "expect": {name: getattr(expected, name) for name in Expected.__slots__},
    }
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def line(server: str, build: str, at: datetime) -> str:
    """Write a Received line as the Exchange server of this name and build does."""
    return (
        f"Received: from client.example (192.0.2.77) by {server} (192.0.2.2) with Microsoft SMTP Server"
        f" (version=TLS1_2) id {build}; {at:%a, %-d %b %Y %H:%M:%S} +0000"
    )


def cases(oracle: Oracle) -> Iterator[Case]:
    """Give the cases of an export: every minute of every class, every change at midnight, and every way out."""
    for case in _cases(oracle.known):
        yield case if case.ip else replace(case, ip=oracle.stranger)


def _cases(known: Tables) -> Iterator[Case]:
    """Give the cases; those without an address are of a peer that nobody has identified."""
    spans = _spans(known)
    for server, build, day in _representatives(spans.filter("running"), ["block", "throttle", "offset"]):
        for minute in range(60):
            for second in (0, 59):
                yield _case(server, build, datetime.combine(day, time(13, minute, second)))
    for server, build, day in _representatives(spans.filter(~pl.col("running")), ["stage"]):
        yield from (_case(server, build, datetime.combine(day, time(7, minute, 30))) for minute in (0, 29, 59))
    yield from _midnights(spans, known)
    first = spans.row(0, named=True) if spans.height else None
    server = first["server"] if first else next(iter(known.servers["server"]), _UNKNOWN_SERVER)
    build = first["build"] if first else next(iter(known.builds["build"]), _UNKNOWN_BUILD)
    noon = datetime.combine(first["day"] if first else known.valid_from, time(12, 1))
    yield from _edges(server, build, known)
    yield from _ways_out(server, build, noon, known)
    yield from _spellings(server, build, noon)
    yield from _identities(server, build, noon, known)


def _case(server: str, build: str, at: datetime) -> Case:
    return Case(at=at, received=(line(server, build, at),))


def _spans(known: Tables) -> pl.DataFrame:
    """Give the spans of the calendar that the export reaches, each with a day in it and a build that is hit then."""
    products = known.servers.select("server", "cohorts").explode("cohorts").drop_nulls().unnest("cohorts")
    oldest = _oldest(known)
    return (
        known.calendar.filter(pl.col("from_on") <= known.not_after)
        .filter(pl.col("until_on").is_null() | (pl.col("until_on") > known.valid_from))
        .join(products, on=["server", "cohort"])
        .join(oldest, on="product")
        .with_columns(day=pl.max_horizontal("from_on", pl.lit(known.valid_from)))
        .filter(pl.col("vulnerable_from") <= pl.col("day"))
        .with_columns(offset=pl.col("minute_offset") * (known.policy.window == "spread"))
        .sort("server", "cohort", "from_on", "product")
    )


def _oldest(known: Tables) -> pl.DataFrame:
    """Give the build of each product that is vulnerable first."""
    builds = known.builds.filter(pl.col("vulnerable_from").is_not_null()).sort("vulnerable_from", "build")
    return builds.group_by("product", maintain_order=True).first().select("product", "build", "vulnerable_from")


def _representatives(spans: pl.DataFrame, by: list[str]) -> Iterator[tuple[str, str, date]]:
    """Give one server of each class, with a build of its and a day."""
    chosen = spans.unique(by, keep="first", maintain_order=True)
    yield from chosen.select("server", "build", "day").iter_rows()


def _midnights(spans: pl.DataFrame, known: Tables) -> Iterator[Case]:
    """Give both sides of each midnight at which a stage changes, a pause begins, or one ends."""
    following = spans.select("server", "cohort", "product", from_on="from_on", to="stage", runs="running")
    changes = spans.join(
        following,
        left_on=["server", "cohort", "product", "until_on"],
        right_on=["server", "cohort", "product", "from_on"],
    ).unique(["until_on", "stage", "to", "running", "runs"], keep="first", maintain_order=True)
    for server, build, changed in changes.select("server", "build", "until_on").iter_rows():
        midnight = datetime.combine(changed, time())
        for seconds in (-1800, -1, 0, 1, 1800):
            yield _case(server, build, midnight + timedelta(seconds=seconds))
    started = [cohort.starts_on for cohort in known.policy.cohorts]
    since = [day for day in known.builds["vulnerable_from"].unique().sort() if day is not None]
    within = sorted({day for day in (*started, *since) if known.valid_from <= day <= known.not_after})
    servers = spans["server"].unique(maintain_order=True).head(1).to_list() or known.servers["server"].head(1).to_list()
    for day in within:
        for build in [*known.builds.filter(vulnerable_from=day)["build"], *_oldest(known)["build"]]:
            for server in servers:
                for seconds in (-1, 0):
                    yield _case(server, build, datetime.combine(day, time()) + timedelta(seconds=seconds))


def _edges(server: str, build: str, known: Tables) -> Iterator[Case]:
    """Give the first and the last second in which the export holds, and those before and after."""
    opens = datetime.combine(known.valid_from, time())
    closes = datetime.combine(known.not_after, time()) + timedelta(days=1)
    for at in (
        opens - timedelta(seconds=1),
        opens,
        closes - timedelta(seconds=1),
        closes,
        closes + timedelta(days=900),
    ):
        yield _case(server, build, at)


def _ways_out(server: str, build: str, noon: datetime, known: Tables) -> Iterator[Case]:
    """Give what is accepted for each of the other reasons."""
    ours, ordinary = line(server, build, noon), "Received: from a.example by b.example (Postfix) with ESMTP id 1; now"
    mapi = ours.replace("Microsoft SMTP Server (version=TLS1_2)", "mapi")
    cloud = line("am0pr01.prod.outlook.com", "15.20.8000.10", noon)
    current = known.builds.filter(pl.col("vulnerable_from").is_null() & pl.col("product").is_not_null())["build"]
    other = known.builds.filter(pl.col("build") != build)["build"]
    quiet = known.servers.join(known.calendar, on="server", how="anti")["server"]
    yield _case(_UNKNOWN_SERVER, build, noon)
    yield _case(server, _UNKNOWN_BUILD, noon)
    yield from (_case(server, each, noon) for each in (*current.head(2), "15.20.8000.10", "15.1.2507", "x"))
    yield from (_case(each, old, noon) for old in _oldest(known)["build"] for each in (server, *quiet.head(1)))
    yield from (_case(each, build, noon) for each in quiet.head(2))
    for received in (
        (ordinary, ours), (ordinary,), (), (cloud, ours), (cloud,), (mapi,), (mapi, ours), (ours, ordinary),
        *((ours, line(_UNKNOWN_SERVER, each, noon)) for each in other.head(1)),
        *((line(_UNKNOWN_SERVER, each, noon), ours) for each in other.head(1)),
    ):  # fmt: skip
        yield Case(at=noon, received=received)


def _spellings(server: str, build: str, noon: datetime) -> Iterator[Case]:
    """Give the same line in other spellings, and names that no server has."""
    ours = line(server, build, noon)
    major, minor, number, revision = build.split(".")
    spelt = (
        ours.replace(" by ", "\r\n by ").replace(" id ", " id\r\n\t"),
        line(f"{server.upper()}.", f"{major}.{minor:>02}.{number:>04}.{revision:>03}", noon),
        ours.replace("(192.0.2.2)", "(a (b by c.example (d)) e)"),
        ours.replace("client.example", "by.example (HELO by x.example)"),
        ours.replace("Received:", "RECEIVED:").replace(" with ", " WITH ").replace(" id ", " Id "),
        ours.replace("; ", " for <stand.by@me.example>; "),
        ours.replace(" id ", " via Frontend Transport ID "),
        ours.replace(";", " ;"),
        ours.rpartition(";")[0],
        f"{ours}; id 15.0.0.0",
        ours.replace("(192.0.2.2)", "(192.0.2.2"),
        ours.replace("Microsoft SMTP Server", "microsoft SMTP Server"),
        ours.replace(" id ", " id id "),
    )
    yield from (Case(at=noon, received=(each,)) for each in spelt)
    yield Case(at=noon, received=(ours,), ip="2001:db8:ffff::25")
    for name in (
        "-", ".", "..", f"{server}..", f"a..{server}", f"{server}=x", f"{server}\n", "$sender_host_address",
        "${run{x}}", "{", "}", f"{server}:", f"{server}|0|1", f'"{server}"', f"<{server}>", f"[{server}]", f"[{server}",
        "[192.0.2.9]", "[IPv6:2001:DB8::1]", "2001:db8::1", "ipv6:::1", "::1", "::", "1:2:3", "fe80::1%eth0x y", "a b",
        "a" * 255, "a" * 256, "a" * 2_000, f"{server}ſ", f"{server}é", f"{server},{build}", "*", "%s", "s:x", "serial",
        "0", "1",
    ):  # fmt: skip
        yield _case(name, build, noon)


def _identities(server: str, build: str, noon: datetime, known: Tables) -> Iterator[Case]:
    """Give peers that are identified, and the name in their header is another one or none."""
    for key in _some(known.identities):
        names = (_UNKNOWN_SERVER, server, "not..usable")
        if key.startswith("sha256:"):
            peers: list[tuple[str, str | None]] = [("", key.removeprefix("sha256:"))]
            peers += [(ip, peers[0][1]) for ip in _some(each for each in known.identities if _is_address(each))[:1]]
        elif _is_address(key):
            peers = [(key, None)]
        else:
            network = ipaddress.ip_network(key)
            first, last = int(network[0]), int(network[-1])
            ends = (first, last, max(first - 1, 0), min(last + 1, 2**network.max_prefixlen - 1))
            peers = [(str(type(network[0])(end)), None) for end in ends]
        for name in names:
            for ip, certificate in peers:
                yield Case(at=noon, received=(line(name, build, noon),), ip=ip, certificate=certificate)
                yield Case(
                    at=noon, received=("Received: from a.example by b.example; now",), ip=ip, certificate=certificate
                )


def _some(identities: Iterable[str], n_each: int = 20) -> Sequence[str]:
    """Take the first of each kind and length of prefix."""
    taken: dict[str, list[str]] = {}
    for key in identities:
        kind = "certificate" if key.startswith("sha256:") else f"{':' in key}/{key.partition('/')[2]}"
        of_kind = taken.setdefault(kind, [])
        if len(of_kind) < n_each:
            of_kind.append(key)
    return [key for keys in taken.values() for key in keys]


def _is_address(identity: str) -> bool:
    return not identity.startswith("sha256:") and "/" not in identity
