"""What mail servers do not reach of a policy: mail that came by other ways, identities that a target is not told."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import date, timedelta
from typing import Final

from enforcement.course import Course
from enforcement.export.tables import CERTIFICATE
from enforcement.history import History, Period
from enforcement.policy import Policy
from enforcement.received import Route
from enforcement.volume import subject_by_route

_DAYS: Final = 30  # of the history that an export tells of


def told_of_reach(
    history: History, way: Course, policy: Policy, identities: Mapping[str, str], *, as_of: date
) -> tuple[str, ...]:
    """Say what an export of a day leaves out, and which identities it has, a line each."""
    lately = Period(as_of - timedelta(days=_DAYS - 1), as_of)
    return (_left_out(subject_by_route(history.traffic, way.pairs, policy, lately)), *_identified(identities))


def _left_out(by_route: Mapping[str, int]) -> str:
    r"""Say how much of the subject mail mail servers leave out, for they see direct hand-overs only.

    >>> _left_out({"direct": 750, "relayed": 200, "through cloud": 50})[:76]
    'Mail servers leave out 250 (25.0%) of the 1,000 subject messages of the last'
    """
    n_subject, n_direct = sum(by_route.values()), by_route.get(Route.DIRECT, 0)
    if not n_subject:
        return f"No message of the last {_DAYS} days is subject to the policy."
    if n_direct == n_subject:
        return f"All {n_subject:,} subject messages of the last {_DAYS} days came directly: mail servers see them."
    others = ", ".join(f"{n:,} {route}" for route, n in by_route.items() if route != Route.DIRECT and n)
    left = n_subject - n_direct
    return (
        f"Mail servers leave out {left:,} ({left / n_subject:.1%}) of the {n_subject:,} subject messages of the last "
        f"{_DAYS} days ({others}): they enforce direct hand-overs, and accept and log others."
    )


def _identified(identities: Mapping[str, str]) -> Iterator[str]:
    """Say how many identities there are, and that some do not count in Postfix.

    >>> list(_identified({"192.0.2.1": "mx.t.example", "192.0.2.0/24": "mx.t.example"}))
    ['2 identities of 1 server: 1 address, 1 network.']
    """
    if not identities:
        return
    kinds = {
        "address": ("addresses", _count("/" not in key and not key.startswith(CERTIFICATE) for key in identities)),
        "network": ("networks", _count("/" in key for key in identities)),
        "certificate": ("certificates", _count(key.startswith(CERTIFICATE) for key in identities)),
    }
    told = ", ".join(f"{n:,} {one if n == 1 else many}" for one, (many, n) in kinds.items() if n)
    n_servers = len(set(identities.values()))
    yield (
        f"{len(identities):,} identit{'y' if len(identities) == 1 else 'ies'} of {n_servers:,} "
        f"server{'' if n_servers == 1 else 's'}: {told}."
    )
    if kinds["certificate"][1]:
        yield (
            "Certificates do not count in Postfix, which tells a milter none: there such a server is known by its "
            "address, if that is among the identities, else by the name in its mail."
        )


def _count(found: Iterable[bool]) -> int:
    return sum(found)
