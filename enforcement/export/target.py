"""What a target says to a message: the export's tables looked up, and `decide` asked. Every target means this."""

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from functools import cached_property
from typing import Final, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from enforcement.builds import Evidence, Hop
from enforcement.decision import State, Still, decide, still_on
from enforcement.policy import Policy
from enforcement.received import Route, Stamp, read_chain
from enforcement.verdict import Reply, Verdict

_CERTIFICATE: Final = "sha256:"


class Reason(StrEnum):
    """Why a target says what it says."""

    ENFORCED = "enforced"  # the verdict of the minute, which may be to accept
    STANDING_STILL = "standing still"  # paused or exempt
    NEW_DETECTION = "new detection"  # vulnerable, and no calendar says what to do
    NO_COHORT = "no cohort"
    NOT_VULNERABLE = "not vulnerable"
    UNKNOWN_BUILD = "unknown build"
    NOT_DIRECT = "not direct"
    NO_EXCHANGE_SERVER = "no exchange server"  # ordinary mail: not logged
    EXPIRED = "expired"
    NOT_YET_VALID = "not yet valid"
    FAILURE = "failure"  # no tables that could be trusted


class Peer(NamedTuple):
    """What a server shows of itself: its Received lines, topmost first, its address, its certificate's SHA-256."""

    received: Sequence[str]
    address: str | None = None
    certificate: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a target says; `reply` is None when it accepts, `stage` when none applies."""

    verdict: Verdict
    reason: Reason
    reply: Reply | None = None
    server: str | None = None
    build: str | None = None
    cohort: str | None = None
    stage: int | None = None


# What a target defers with while no tables can be trusted, if `on_failure` says so.
FAILURE_REPLY: Final = Reply(450, "4.3.0", "450 4.3.0 Temporary failure of the enforcement policy; try again later")
_STRICT = ConfigDict(strict=True, extra="forbid", frozen=True)


class _Build(BaseModel):
    model_config = _STRICT
    evidence: str
    product: str | None = None
    vulnerable_from: date | None = None
    rule: str | None = None


class _Server(BaseModel):
    """A server that the store knows, `cohorts` by product, `calendar` by cohort."""

    model_config = _STRICT
    tenant: str
    minute_offset: int
    cohorts: dict[str, str]
    calendar: dict[str, "_Calendar"]


class _Calendar(BaseModel):
    """When a spell would have begun, had its clock never stood still before the export; and when it will."""

    model_config = _STRICT
    spell_from_on: date
    still: tuple[tuple[date, date | None], ...] = ()


class Lookup(BaseModel):
    """The tables in the form that a program asks: one JSON document, read back as it was written."""

    model_config = _STRICT

    policy: Policy
    serial: int
    valid_from: date
    not_after: date
    servers: dict[str, _Server]
    builds: dict[str, _Build]
    identities: dict[str, str]

    @cached_property
    def _networks(self) -> list[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, str]]:
        """Networks with their servers, the narrowest first."""
        found = [(ipaddress.ip_network(key), server) for key, server in self.identities.items() if "/" in key]
        return sorted(found, key=lambda each: -each[0].prefixlen)

    def identified(self, peer: Peer) -> str | None:
        """Give the server that an operator says a peer is: by its certificate, else its address, else its network."""
        by_certificate = self.identities.get(f"{_CERTIFICATE}{peer.certificate}") if peer.certificate else None
        if by_certificate is not None or peer.address is None:
            return by_certificate
        try:
            address = ipaddress.ip_address(peer.address)
        except ValueError:
            return None
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        exact = self.identities.get(str(address))
        if exact is not None:
            return exact
        return next((server for network, server in self._networks if address in network), None)


def read_lookup(content: bytes) -> Lookup:
    """Read what `lookup_json` wrote, or say in a ValueError that it is none.

    >>> read_lookup(b"{}")
    Traceback (most recent call last):
    ValueError: not the tables of an export: policy: Field required
    """
    try:
        return Lookup.model_validate_json(content, by_alias=True, by_name=False)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise ValueError(f"not the tables of an export: {where}: {first['msg']}") from None


def answer(lookup: Lookup, peer: Peer, at: datetime) -> Answer:
    """Say what a target says to a message of a peer at a UTC time.

    >>> tables = Lookup.model_construct(valid_from=date(2026, 1, 2), not_after=date(2026, 1, 15))
    >>> str(answer(tables, Peer(received=[]), datetime(2026, 1, 16)).reason)
    'expired'
    """
    day = at.date()
    if not lookup.valid_from <= day <= lookup.not_after:
        reason = Reason.EXPIRED if day > lookup.not_after else Reason.NOT_YET_VALID
        return Answer(verdict=Verdict.ACCEPT, reason=reason)
    stamp = direct_hand_over(peer.received)
    if isinstance(stamp, Reason):
        return Answer(verdict=Verdict.ACCEPT, reason=stamp)
    # A name or a build that cannot be read is None, and no table knows it.
    seen = _Seen(lookup.identified(peer) or stamp.server, None if stamp.build is None else str(stamp.build))
    state = _state(lookup, seen, day)
    if isinstance(state, Answer):
        return state
    decision = decide(state, lookup.policy, at)
    reply = None
    if decision.text is not None and decision.code is not None and decision.enhanced_code is not None:
        reply = Reply(decision.code, decision.enhanced_code, decision.text)
    return Answer(
        verdict=decision.verdict,
        reason=Reason.STANDING_STILL if still_on(state, day) else Reason.ENFORCED,
        reply=reply,
        server=seen.server,
        build=seen.build,
        cohort=state.cohort,
        stage=decision.stage,
    )


def _state(lookup: Lookup, seen: "_Seen", day: date) -> State | Answer:
    """Gather what a verdict needs to know, or say why the message is accepted without one."""
    build = None if seen.build is None else lookup.builds.get(seen.build)
    server = None if seen.server is None else lookup.servers.get(seen.server)
    if build is None or build.evidence == Evidence.UNKNOWN:
        return seen.accepted(Reason.UNKNOWN_BUILD)
    if build.vulnerable_from is None or day < build.vulnerable_from:
        return seen.accepted(Reason.NOT_VULNERABLE)
    if server is None:
        return seen.accepted(Reason.NEW_DETECTION)
    name = server.cohorts.get(build.product or "")
    cohort = next((each for each in lookup.policy.cohorts if each.name == name), None)
    if cohort is None or day < cohort.starts_on:
        return seen.accepted(Reason.NO_COHORT)
    calendar = server.calendar.get(cohort.name)
    if calendar is None or day < calendar.spell_from_on:
        return seen.accepted(Reason.NEW_DETECTION, cohort.name)
    return State(
        server=str(seen.server),
        tenant=server.tenant,
        build=seen.build,
        evidence=Evidence(build.evidence),
        product=build.product,
        vulnerable_from=build.vulnerable_from,
        rule=build.rule,
        route=Route.DIRECT,
        cohort=cohort.name,
        cohort_starts_on=cohort.starts_on,
        spell_from_on=calendar.spell_from_on,
        still=tuple(Still(begin, end or date.max, Reason.STANDING_STILL) for begin, end in calendar.still),
        minute_offset=server.minute_offset,
    )


class _Seen(NamedTuple):
    server: str | None
    build: str | None

    def accepted(self, reason: Reason, cohort: str | None = None) -> Answer:
        return Answer(verdict=Verdict.ACCEPT, reason=reason, server=self.server, build=self.build, cohort=cohort)


def direct_hand_over(lines: Sequence[str]) -> Stamp | Reason:
    """Give what the Exchange server says of itself that wrote a message's topmost line, or why none did.

    Its time is not read: what counts is when the mail comes.

    >>> str(direct_hand_over(["Received: from a by mx.example (Postfix) with ESMTP id 1; 8 Apr 2025 13:54:44 GMT"]))
    'no exchange server'
    """
    hops, _ = read_chain(lines)
    on_premises = [(line, stamp) for line, stamp, _ in hops if stamp.hop is Hop.SMTP and not stamp.is_cloud]
    if not on_premises:
        return Reason.NO_EXCHANGE_SERVER
    line, stamp = on_premises[0]
    return stamp if line is lines[0] else Reason.NOT_DIRECT


def logged(answer: Answer, at: datetime, serial: int | None) -> Mapping[str, object] | None:
    """Give the line of the decision log as a JSON object; None: ordinary mail leaves none.

    >>> expired = Answer(verdict=Verdict.ACCEPT, reason=Reason.EXPIRED)
    >>> logged(expired, datetime(2026, 1, 16, 8, 30), 2026010100)["at"]
    '2026-01-16T08:30:00Z'
    """
    if answer.reason is Reason.NO_EXCHANGE_SERVER:
        return None
    return {
        "enforcement": 1,
        "at": f"{at:%Y-%m-%dT%H:%M:%SZ}",
        "serial": serial,
        "verdict": str(answer.verdict),
        "reason": str(answer.reason),
        "stage": answer.stage,
        "cohort": answer.cohort,
        "server": answer.server,
        "build": answer.build,
    }
