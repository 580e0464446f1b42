"""The lives of servers in one draw under one policy: they wait, act or retire, land on a build, and wait again."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Final, Self

import numpy as np

from enforcement.acts import Hazard, Reaction, Waiting, first_acts, next_acts
from enforcement.chance import Bools, Floats, Ints
from enforcement.outlook import Outlook
from enforcement.pressure import FAR

_ALMOST_1: Final = 1.000001  # sums in another order differ in their last bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """What chance says of each server in a round; `age` of the first missing update on landing, 0: none.

    patience: of the servers asked for.
    """

    patience: Callable[[Ints], Floats]
    retirement: Floats
    age: Ints
    leaving: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Fortune:
    """All that chance says in a draw: of each round, of updates to come and of tenants; no policy enters."""

    of_round: Callable[[int], Numbers]
    by: Reaction
    retiring: Hazard
    updates: Ints
    pauses: Bools
    supported_leave_product: float
    unsupported_leave_product: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Spans:
    """Spans of days of servers, each from a day to the first one no longer in it."""

    server: Ints
    from_day: Ints
    until_day: Ints

    @classmethod
    def of(cls, server: Ints, from_day: Ints, until_day: Ints) -> Self:
        """Leave out spans without a day.

        >>> day = np.array([3, 4])
        >>> Spans.of(np.array([0, 1]), day, np.array([3, 6])).server.tolist()
        [1]
        """
        some = np.flatnonzero(from_day < until_day)
        return cls(server=server.take(some), from_day=from_day.take(some), until_day=until_day.take(some))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lives:
    """What happened to the servers in a draw under a policy, from day 0 to the last day.

    vulnerable: spans of counting as vulnerable; ways: of being on a row of the pressure; row: of each of these. Rows
    that never begin are left out. harmless: spans on harmless_row of those who do not count as vulnerable there: some
    only when risk is measured by other rules than the policy's.
    """

    vulnerable: Spans
    ways: Spans
    row: Ints
    harmless: Spans
    harmless_row: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waits:
    """Servers that wait, an array of servers each.

    after: the day behind which the hazard counts; row_from, vulnerable_since, risk_since: when its row, its being
    vulnerable by the policy's rules, and its counting as vulnerable began, not before day 0; product: 1: the successor.
    """

    server: Ints
    since: Ints
    ended: Ints
    after: Ints
    row: Ints
    row_from: Ints
    vulnerable_since: Ints
    risk_since: Ints
    product: Ints

    def take(self, which: Ints) -> "_Waits":
        """Take some of them."""
        return _Waits(**{each.name: getattr(self, each.name).take(which) for each in fields(self)})


def lives(look: Outlook, chance: Fortune) -> Lives:
    """Live all rounds until nobody acts by the last day; the outlook's pauses are those of the draw."""
    size = look.n_days + 1
    next_update = _next_update(chance.updates, size)
    wait, act = _first(look, chance, next_update)
    vulnerable: list[tuple[Ints, Ints, Ints]] = []
    ways: list[tuple[Ints, Ints, Ints, Ints]] = []
    harmless: list[tuple[Ints, Ints, Ints, Ints]] = []
    round_ = 0
    while len(wait.server):
        numbers = chance.of_round(round_)
        if round_:
            act = _acts(look, wait, numbers.patience(wait.server), chance.by)
        out = _retires(look, wait, numbers.retirement.take(wait.server), chance.retiring)
        end = np.clip(np.minimum(act, out), 0, size)
        goes_on = np.flatnonzero((act <= out) & (act < size))
        landed, is_still, is_on_row = _landed(look, wait.take(goes_on), act[goes_on], numbers, (chance, next_update))
        has_stopped = wait.risk_since < end
        has_stopped[goes_on] &= ~is_still
        stops = np.flatnonzero(has_stopped)
        vulnerable.append((wait.server.take(stops), wait.risk_since.take(stops), end.take(stops)))
        has_row = look.plan.spells.begins.take(wait.row) < size
        if look.has_other_risk:
            start, until = np.maximum(wait.after, 0), np.minimum(wait.risk_since, end)
            some = np.flatnonzero(has_row & (start < until))
            harmless.append((wait.server.take(some), start.take(some), until.take(some), wait.row.take(some)))
        has_stopped = has_row & (wait.row_from < end)
        has_stopped[goes_on] &= ~is_on_row
        stops = np.flatnonzero(has_stopped)
        ways.append((wait.server.take(stops), wait.row_from.take(stops), end.take(stops), wait.row.take(stops)))
        wait = landed
        round_ += 1
    server, row_from, until, row = (np.concatenate(each) for each in zip(*ways, strict=True))
    seen, since, ended = (np.concatenate(each) for each in zip(*vulnerable, strict=True))
    none = np.zeros(0, dtype=np.int64)
    quiet, quiet_from, quiet_until, quiet_row = (
        (np.concatenate(each) for each in zip(*harmless, strict=True)) if harmless else (none, none, none, none)
    )
    return Lives(
        vulnerable=Spans(server=seen, from_day=since, until_day=ended),
        ways=Spans(server=server, from_day=row_from, until_day=until),
        row=row,
        harmless=Spans(server=quiet, from_day=quiet_from, until_day=quiet_until),
        harmless_row=quiet_row,
    )


def _next_update(updates: Ints, size: int) -> Ints:
    """Give for each day the day of the next update after it; FAR: none."""
    return np.append(updates, FAR)[np.searchsorted(updates, np.arange(size), side="right")]


def _first(look: Outlook, chance: Fortune, next_update: Ints) -> tuple[_Waits, Ints]:
    """Give the fleet as it waits on day 0, and when it acts first."""
    n = len(look.tenant)
    which = chance.pauses.take(look.tenant).astype(np.int64)
    every = np.arange(n)
    # A server that misses nothing waits for the next update.
    is_clean = (look.since >= FAR) & (look.ended > 0)
    coming = np.where(next_update[0] < look.ended, next_update[0], FAR)
    since = np.where(is_clean, coming, look.since)
    vulnerable_from = np.minimum(look.vulnerable_from, since + look.landed.after_missing[0])
    risk_from = np.minimum(look.risk_from, since + look.landed.risk_after_missing[0])
    row = look.rows[which, every]
    begins = np.maximum(np.maximum(vulnerable_from, look.landed.cohort_starts[0]), 1)
    is_sooner = is_clean & (begins < look.plan.spells.begins.take(row))
    wait = _Waits(
        server=every,
        since=since,
        ended=look.ended,
        after=np.where(is_clean, 0, look.seen),
        row=np.where(is_sooner, look.landed.rows + np.minimum(begins, look.n_days + 1), row),
        row_from=np.zeros(n, dtype=np.int64),
        vulnerable_since=np.maximum(vulnerable_from, 0),
        risk_since=np.maximum(risk_from, 0),
        product=np.zeros(n, dtype=np.int64),
    )
    patience = chance.of_round(0).patience(every)
    act = np.full(n, FAR)
    seen, clean = np.flatnonzero(~is_clean), np.flatnonzero(is_clean)
    act[seen] = first_acts(look.on, look.paths[which[seen], seen], patience[seen], look.tenant[seen], chance.by)
    act[clean] = _acts(look, wait.take(clean), patience[clean], chance.by)
    return wait, act


def _acts(look: Outlook, wait: _Waits, patience: Floats, by: Reaction) -> Ints:
    met = look.pressure
    on = Waiting(
        since=wait.since,
        ended=wait.ended,
        after=wait.after,
        ends=met.ends.take(wait.row, axis=1),
        levels=met.end_levels.take(wait.row, axis=1),
        tenant=look.tenant.take(wait.server),
    )
    return next_acts(on, patience, by)


def _retires(look: Outlook, wait: _Waits, patience: Floats, hazard: Hazard) -> Ints:
    """Give the day on which each server is retired, whatever it meets; FAR: not by the last day."""
    left = look.n_days - wait.after
    # Most are not: what their hazard can be at most is soon told.
    supported, unsupported = (float(np.diff(part.sums).max()) for part in (hazard.supported, hazard.unsupported))
    most = left * np.where(wait.ended > look.n_days, supported, max(supported, unsupported))
    may = np.flatnonzero(patience <= most * _ALMOST_1)
    since, ended, after = wait.since[may], wait.ended[may], wait.after[may]
    wanted = hazard.sums(since, ended, after) + patience[may]
    will = np.flatnonzero(wanted <= hazard.sums(since, ended, np.full(len(may), look.n_days)))
    found = np.full(len(wait.server), FAR)
    days = hazard.first_day(since[will], ended[will], wanted[will])
    found[may[will]] = np.clip(days, after[will] + 1, look.n_days)
    return found


def _landed(
    look: Outlook, wait: _Waits, day: Ints, numbers: Numbers, more: tuple[Fortune, Ints]
) -> tuple[_Waits, Bools, Bools]:
    """Land those who act on a day; tell who goes on counting as vulnerable, and who stays on its row."""
    chance, next_update = more
    of, server = look.landed, wait.server
    is_out = day >= wait.ended
    share = np.where(is_out, chance.unsupported_leave_product, chance.supported_leave_product)
    product = np.maximum(wait.product, numbers.leaving.take(server) < share)
    place = product * len(look.tenant) + server
    age = numbers.age.take(server)
    ended = of.ended.take(place)
    today = np.maximum(day, 0)
    coming = next_update.take(today)
    since = np.where(age > 0, day - age, np.where(coming < ended, coming, FAR))
    vulnerable_from = np.minimum(since + of.after_missing.take(place), ended + of.after_unsupported.take(place))
    is_still = (vulnerable_from <= day) & (wait.vulnerable_since <= today)
    risk_from = np.minimum(since + of.risk_after_missing.take(place), ended + of.risk_after_unsupported.take(place))
    is_still_at_risk = (risk_from <= day) & (wait.risk_since <= today)
    is_same_cohort = (product == wait.product) | of.same_cohort.take(place)
    is_on_row = is_still & is_same_cohort & (look.plan.spells.begins.take(wait.row) <= today)
    begins = np.maximum(np.maximum(vulnerable_from, of.cohort_starts.take(place)), np.maximum(today, 1))
    new_row = of.rows.take(server) + np.minimum(begins, look.n_days + 1)
    landed = _Waits(
        server=server,
        since=since,
        ended=ended,
        after=day,
        row=np.where(is_on_row, wait.row, new_row),
        row_from=np.where(is_on_row, wait.row_from, today),
        vulnerable_since=np.where(is_still, wait.vulnerable_since, np.maximum(vulnerable_from, today)),
        risk_since=np.where(is_still_at_risk, wait.risk_since, np.maximum(risk_from, today)),
        product=product,
    )
    return landed, is_still_at_risk, is_on_row
