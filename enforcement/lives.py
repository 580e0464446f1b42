"""The lives of servers in one draw under one policy: they wait, act or retire, land on a build, and wait again.

Compiled, each server lived from event to event and counted at once. A random number is a hash of what it is for, drawn
when it is needed: no policy, order or thread changes it. All that is compiled stands here: it is kept beside this file,
or in the user's cache folder (numba's, NUMBA_CACHE_DIR), and made anew when this file changes. So touch it when fields
of `life_tables` change; what other modules know comes in as values.
"""

from collections.abc import Callable
from math import cos, erfc, inf, log, pi, sqrt
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numba import njit

from enforcement.chance import Floats, Ints
from enforcement.life_tables import Counts, Luck, Odds, Pieces, Way

Record: TypeAlias = Any  # a row of a table with named columns, whose names mypy does not know
_Function = TypeVar("_Function", bound=Callable[..., Any])

# What a number is for. A normal one takes two.
PATIENCE: Final = 1
PATIENCE_OF_TENANT: Final = 3
NEVER: Final = 5
RETIRING: Final = 6
LANDING: Final = 7
LEAVING: Final = 8

_WEEKDAYS: Final = 7
_KEPT_ROUNDS: Final = 3  # in which patience is drawn once for all policies
# SplitMix64: Steele, Lea and Flood, Fast splittable pseudorandom number generators, 2014.
_STEP: Final = np.uint64(0x9E3779B97F4A7C15)
_TIMES: Final = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_SHIFTS: Final = (np.uint64(30), np.uint64(27), np.uint64(31))
_LOT_BITS: Final = np.uint64(56)
_ROUND_BITS: Final = np.uint64(32)
_LOST_BITS: Final = np.uint64(12)


def _compiled(function: _Function, *, is_kept: bool = False) -> _Function:
    # Numba's memory manager (nrt) would count references to arrays, which costs more than all else that is done. With-
    # out it no array can be made in what is compiled, and the switch is none of those that numba shows to mypy.
    options: dict[str, Any] = {"_nrt": False, "error_model": "numpy", "forceinline": not is_kept}
    return njit(nogil=True, cache=is_kept, **options)(function)


def _compiled_and_kept(function: _Function) -> _Function:
    try:
        return _compiled(function, is_kept=True)
    except RuntimeError:  # neither this folder nor one of the user's may be written: compiled anew in each process
        return _compiled(function)


def live(way: Way, luck: Luck, patience: Floats) -> tuple[Floats, Ints]:
    """Give (measures, days + 1) outcomes, and by day how many of those at risk since day 0 are so no more from it on.

    The last place of these is for those who stay. patience: as from `no_patience`, the same for all policies of a draw.
    """
    size, of_rows = way.fleet.n_days + 1, (len(way.starts), way.starts.shape[1] + 1, _WEEKDAYS)
    counts = Counts(
        at_risk=np.zeros(size + 1, np.int64),
        tenants=np.zeros((2, size + 1), np.int64),
        spans=np.empty((2, size, 2), np.int64),
        n_spans=np.zeros(2, np.int64),
        gone=np.zeros(size + 1, np.int64),
        mail=np.zeros((size + 1, _WEEKDAYS)),
        harm=np.zeros((2, size + 1, 2, _WEEKDAYS)),
        entering=np.zeros((1 + way.fleet.has_other_risk, *of_rows)),
        found=np.empty((6, size)),
    )
    _live(way, luck, patience, counts)
    return counts.found, counts.gone


def no_patience(n_servers: int) -> Floats:
    """Give room for the patience of the first rounds, drawn when it is first asked for."""
    return np.zeros((_KEPT_ROUNDS, n_servers))


@_compiled
def _uniform(key: np.uint64, lot: int, round_: int, who: int) -> float:
    """Draw a number between 0 and 1, both excluded."""
    bits = (np.uint64(lot) << _LOT_BITS) | (np.uint64(round_) << _ROUND_BITS) | np.uint64(who)
    bits = key + bits * _STEP
    bits = (bits ^ (bits >> _SHIFTS[0])) * _TIMES[0]
    bits = (bits ^ (bits >> _SHIFTS[1])) * _TIMES[1]
    bits ^= bits >> _SHIFTS[2]
    return (np.int64(bits >> _LOST_BITS) + 0.5) * 2.0**-52


@_compiled
def _normal(key: np.uint64, lot: int, round_: int, who: int) -> float:
    """Draw a standard normal number (Box and Muller 1958)."""
    length = sqrt(-2 * log(_uniform(key, lot, round_, who)))
    return length * cos(2 * pi * _uniform(key, lot + 1, round_, who))


@_compiled
def _patience_of(odds: Odds, server: int, tenant: int, round_: int, is_alone: bool) -> float:
    """Draw how much pressure a server takes before it acts the first (round 0), second, … time.

    Exponential of mean 1, correlated within a tenant (of a normal each, the tenant's part has the share tenant_part);
    infinite, in every round, for the share that never responds.
    """
    if _uniform(odds.key, NEVER, 0, server) < odds.never_responds:
        return inf
    if is_alone or odds.tenant_part == 0:
        return -log(_uniform(odds.key, PATIENCE, round_, server))
    z = sqrt(1 - odds.tenant_part) * _normal(odds.key, PATIENCE, round_, server)
    z += sqrt(odds.tenant_part) * _normal(odds.key, PATIENCE_OF_TENANT, round_, tenant)
    return -log(erfc(z * sqrt(0.5)) / 2)


@_compiled
def _summed(hazard: Floats, since: int, ended: int, until: int) -> float:
    """Sum a hazard from the beginning until a day, that day counted."""
    inside, outside = min(until, ended - 1) - since + 1, until - ended + 1
    total = 0.0
    if inside > 0:
        total += hazard[0, inside]
    if outside > 0:
        total += hazard[1, outside]
    return total


@_compiled
def _first_day(hazard: Floats, since: int, ended: int, share: float, wanted: float, after: int, until: int) -> int:
    """Give the first day by whose end a hazard has summed up to as much: behind `after`, `until` at the latest.

    share: of the hazard of these days; were it even, that share of the days would tell.
    """
    day = after + 1 + int(share * (until - after - 1))
    while day < until and _summed(hazard, since, ended, day) < wanted:
        day += 1
    while day > after + 1 and _summed(hazard, since, ended, day - 1) >= wanted:
        day -= 1
    return day


class _Wait(NamedTuple):
    """A server that waits.

    after: the day behind which the hazard counts; row_from, vulnerable_since, risk_since: when its row, its being
    vulnerable by the policy's rules, and its counting as vulnerable began, not before day 0; product: 1: the successor.
    """

    since: int
    ended: int
    after: int
    row: int
    row_from: int
    vulnerable_since: int
    risk_since: int
    product: int


@_compiled
def _acts(
    wait: _Wait, patience: float, ends: Ints, levels: Ints,
    hazard: Floats, factors: Floats, multipliers: Floats, half_ends: Ints, tenant: int, never: int,
) -> int:  # fmt: skip
    """Give the day on which a server acts: by whose end the hazard has met its patience; `never` if by no day's."""
    since, ended, after, row = wait.since, wait.ended, wait.after, wait.row
    last = ends[row, -1]
    if min(since, ended) > last:
        return never
    piece, half = 0, 0
    after = max(after, min(since, ended) - 1)  # until then there is no hazard
    low = _summed(hazard, since, ended, after)
    while after < last:
        if after < 0:  # until the day of the forecast nothing is met
            until, weight = 0, multipliers[tenant, 0] * factors[0]
        else:
            while ends[row, piece] <= after:
                piece += 1
            while half_ends[half] <= after:
                half += 1
            until = min(ends[row, piece], half_ends[half])
            weight = multipliers[tenant, half] * factors[levels[row, piece]]
        high = _summed(hazard, since, ended, until)
        met = (high - low) * weight
        if met >= patience:
            return _first_day(hazard, since, ended, patience / met, low + patience / weight, after, until)
        patience -= met
        low, after = high, until
    return never


@_compiled
def _retires(wait: _Wait, until: int, drawn: float, hazard: Floats, never: int) -> int:
    """Give the day on which a server is retired, whatever it meets; `never` if not by a day."""
    low = _summed(hazard, wait.since, wait.ended, wait.after)
    coming = _summed(hazard, wait.since, wait.ended, until) - low
    if 1 - drawn > coming:  # which is less than its patience
        return never
    patience = -log(drawn)
    if patience > coming:
        return never
    return _first_day(hazard, wait.since, wait.ended, patience / coming, low + patience, wait.after, until)


@_compiled
def _first_wait(
    server: Record, landed: Record, row: int, n_days: int, begins: Ints, next_update: int, never: int
) -> _Wait:
    """Give how a server waits on day 0; one that misses nothing waits for the next update."""
    since, ended, after = server.since, server.ended, server.seen
    is_clean = since >= never and ended > 0
    if is_clean:
        since, after = next_update if next_update < ended else never, 0
    vulnerable_from = min(server.vulnerable_from, since + landed.after_missing)
    risk_from = min(server.risk_from, since + landed.risk_after_missing)
    if is_clean:
        sooner = max(vulnerable_from, landed.cohort_starts, 1)
        if sooner < begins[row]:
            row = server.later_row + min(sooner, n_days + 1)
    return _Wait(since, ended, after, row, 0, max(vulnerable_from, 0), max(risk_from, 0), 0)


@_compiled
def _land(
    wait: _Wait, day: int, product: int, age: int, later_row: int, of: Record, begins: Ints, n_days: int,
    next_update: Ints, never: int,
) -> _Wait:  # fmt: skip
    """Give how a server that has acted on a day waits anew, on a build that lacks an update of some age (0: none)."""
    today = max(day, 0)
    since, ended = never, of.ended
    if age > 0:
        since = day - age
    elif next_update[today] < ended:
        since = next_update[today]
    vulnerable_from = min(since + of.after_missing, ended + of.after_unsupported)
    risk_from = min(since + of.risk_after_missing, ended + of.risk_after_unsupported)
    vulnerable_since, risk_since = wait.vulnerable_since, wait.risk_since
    row, row_from = wait.row, wait.row_from
    is_still = vulnerable_from <= day and vulnerable_since <= today
    if not is_still:
        vulnerable_since = max(vulnerable_from, today)
    if risk_from > day or risk_since > today:
        risk_since = max(risk_from, today)
    is_same_cohort = product == wait.product or of.same_cohort
    if not (is_still and is_same_cohort and begins[row] <= today):
        row = later_row + min(max(vulnerable_from, of.cohort_starts, today, 1), n_days + 1)
        row_from = today
    return _Wait(since, ended, day, row, row_from, vulnerable_since, risk_since, product)


@_compiled
def _add(spans: Ints, n_spans: Ints, which: int, from_day: int, until_day: int) -> None:
    """Add a span of a tenant to those that it has, none of which meet; those that meet it become one with it."""
    place = 0
    while place < n_spans[which]:
        if spans[which, place, 0] <= until_day and from_day <= spans[which, place, 1]:
            from_day, until_day = min(from_day, spans[which, place, 0]), max(until_day, spans[which, place, 1])
            n_spans[which] -= 1
            spans[which, place, 0] = spans[which, n_spans[which], 0]
            spans[which, place, 1] = spans[which, n_spans[which], 1]
        else:
            place += 1
    spans[which, place, 0], spans[which, place, 1] = from_day, until_day
    n_spans[which] += 1


@_compiled
def _count(spans: Ints, n_spans: Ints, tenants: Ints) -> None:
    """Count a tenant in its spans, and go on to one that has none."""
    for which in range(2):
        for place in range(n_spans[which]):
            tenants[which, spans[which, place, 0]] += 1
            tenants[which, spans[which, place, 1]] -= 1
        n_spans[which] = 0


@_compiled
def _cross(
    whose: int, row: int, day: int, sign: float, server: int, subject: Floats, shares: Floats, piece_before: Pieces,
    entering: Floats, harm: Floats,
) -> None:  # fmt: skip
    """Let the mail of a server come to a row (or leave it, sign -1) on a day: now, and in the pieces to come."""
    piece = piece_before[row, day]
    for weekday in range(_WEEKDAYS):
        messages = sign * subject[server, weekday]
        entering[whose, row, piece + 1, weekday] += messages
        harm[whose, day, 0, weekday] += messages * shares[row, piece, 0]
        harm[whose, day, 1, weekday] += messages * shares[row, piece, 1]


@_compiled
def _spread(starts: Ints, shares: Floats, entering: Floats, harm: Floats) -> None:
    """Add up what the pieces of all rows change on their first days."""
    for whose in range(len(entering)):
        for row in range(len(starts)):
            for piece in range(1, starts.shape[1]):
                day = starts[row, piece]
                late = shares[row, piece, 0] - shares[row, piece - 1, 0]
                gone = shares[row, piece, 1] - shares[row, piece - 1, 1]
                for weekday in range(_WEEKDAYS):
                    entering[whose, row, piece, weekday] += entering[whose, row, piece - 1, weekday]
                    harm[whose, day, 0, weekday] += entering[whose, row, piece, weekday] * late
                    harm[whose, day, 1, weekday] += entering[whose, row, piece, weekday] * gone


@_compiled
def _tell(weekdays: Ints, counts: Counts) -> None:
    """Add up the changes; mail is that of each day's weekday."""
    found = counts.found
    for day, weekday in enumerate(weekdays):
        if day > 0:
            counts.at_risk[day] += counts.at_risk[day - 1]
            counts.tenants[0, day] += counts.tenants[0, day - 1]
            counts.tenants[1, day] += counts.tenants[1, day - 1]
            for each in range(_WEEKDAYS):
                counts.mail[day, each] += counts.mail[day - 1, each]
                for whose in range(2):
                    for what in range(2):
                        counts.harm[whose, day, what, each] += counts.harm[whose, day - 1, what, each]
        late, gone = counts.harm[0, day, 0, weekday], counts.harm[0, day, 1, weekday]
        found[0, day] = counts.at_risk[day]
        found[1, day] = counts.tenants[0, day]
        found[2, day] = counts.mail[day, weekday] - (gone - counts.harm[1, day, 1, weekday])
        found[3, day] = late
        found[4, day] = gone
        found[5, day] = counts.tenants[1, day]


@_compiled_and_kept
def _live(way: Way, luck: Luck, known: Floats, counts: Counts) -> None:  # noqa: C901, PLR0912, PLR0915 - one loop
    n_days, has_other_risk, weekdays, first, servers, landed, volume, subject = way.fleet
    begins, ends, levels, starts, shares, piece_before, hits = way[1:]
    odds, hazard, retiring, factors, multipliers, half_ends, next_update, pauses, bounds, ages = luck
    at_risk, tenants, spans, n_spans, gone, mail, harm, entering, _ = counts
    key, never, size = odds.key, odds.never, n_days + 1
    for tenant in range(len(first) - 1):
        is_alone = first[tenant + 1] - first[tenant] == 1
        for place in range(first[tenant], first[tenant + 1]):
            server, round_, lives_on = servers[place], 0, True
            row = server.row_with_pause if pauses[tenant] else server.row
            wait = _first_wait(server, landed[place, 0], row, n_days, begins, next_update[0], never)
            while lives_on:
                if round_ >= len(known):
                    patience = _patience_of(odds, place, tenant, round_, is_alone)
                else:
                    if known[round_, place] == 0:
                        known[round_, place] = _patience_of(odds, place, tenant, round_, is_alone)
                    patience = known[round_, place]
                act = _acts(wait, patience, ends, levels, hazard, factors, multipliers, half_ends, tenant, never)
                drawn = _uniform(key, RETIRING, round_, place)
                out = _retires(wait, min(act, n_days), drawn, retiring, never)
                lives_on = act <= min(out, n_days)
                end = min(max(min(act, out), 0), size)
                then = wait
                if lives_on:
                    product = wait.product
                    share = odds.unsupported_leave if act >= wait.ended else odds.supported_leave
                    if _uniform(key, LEAVING, round_, place) < share:
                        product = 1
                    at, on = _uniform(key, LANDING, round_, place), 0
                    while bounds[on] <= at:
                        on += 1
                    of = landed[place, product]
                    then = _land(wait, act, product, ages[on], server.later_row, of, begins, n_days, next_update, never)
                if wait.risk_since < end and not (lives_on and then.risk_since == wait.risk_since):
                    at_risk[wait.risk_since] += 1
                    at_risk[end] -= 1
                    _add(spans, n_spans, 0, wait.risk_since, end)
                    for weekday in range(_WEEKDAYS):
                        mail[wait.risk_since, weekday] += volume[place, weekday]
                        mail[end, weekday] -= volume[place, weekday]
                    if wait.risk_since == 0 and server.risk_from <= 0:
                        gone[end] += 1
                row = wait.row
                if begins[row] < size:
                    if wait.row_from < end and not (lives_on and then.row_from == wait.row_from):
                        _cross(0, row, wait.row_from, 1.0, place, subject, shares, piece_before, entering, harm)
                        if end < size:
                            _cross(0, row, end, -1.0, place, subject, shares, piece_before, entering, harm)
                        for run in range(hits.shape[1]):
                            if hits[row, run, 0] < min(hits[row, run, 1], end):
                                _add(spans, n_spans, 1, hits[row, run, 0], min(hits[row, run, 1], end))
                    if has_other_risk:
                        from_day, until_day = max(wait.after, 0), min(wait.risk_since, end)
                        if from_day < until_day:
                            _cross(1, row, from_day, 1.0, place, subject, shares, piece_before, entering, harm)
                            if until_day < size:
                                _cross(1, row, until_day, -1.0, place, subject, shares, piece_before, entering, harm)
                wait = then
                round_ += 1
        _count(spans, n_spans, tenants)
    _spread(starts, shares, entering, harm)
    _tell(weekdays, counts)
