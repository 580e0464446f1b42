"""Servers that come back: they act, land well, miss the next update, and are vulnerable again, week by week.

A mean field: of servers in a class (builds that rules and cohorts treat alike) only how many there are, and how much
mail they send, is known, by weeks since the update they miss first. The multipliers of a tenant stand as two values
each, lasting and passing, and those who act come more often from where they are high. Approximate: support that ends
on the way, cohorts that begin on the way and leaving a product again are followed roughly; pauses are not.
"""

from dataclasses import dataclass
from itertools import pairwise
from math import inf
from typing import Final

import numpy as np

from enforcement.acts import Hazard
from enforcement.assumptions import Assumptions
from enforcement.chance import Floats, Ints
from enforcement.expected_fleet import ExpectedFleet
from enforcement.pressure import FAR
from enforcement.response import DAYS_PER_WEEK, HALF_YEAR_DAYS
from enforcement.survival import gauss_nodes

_WEEKS_PER_YEAR: Final = 365.25 / DAYS_PER_WEEK
_HALF_YEAR: Final = HALF_YEAR_DAYS // DAYS_PER_WEEK
_NODES: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Exits:
    """What becomes of those who act, by group: the share that lands on a build that is not vulnerable.

    supported, unsupported: of acts in and out of support; to_own: of the exits in support, the share that stays in
    its product. ages: weeks since the update missed first, 0: none is missing; shares: (classes, ages) of those who
    land well; well: their share of all that land in the class.
    """

    supported: Floats
    unsupported: Floats
    to_own: Floats
    ages: Ints
    shares: Floats
    well: Floats
    leave_unsupported: float

    @property
    def oldest_week(self) -> int:
        """The oldest age at which anybody lands well."""
        return int(self.ages[(self.shares > 0).any(axis=0)].max(initial=0))


def exits_of(fleet: ExpectedFleet, assumptions: Assumptions) -> Exits:
    """Work out who lands well."""
    landing = assumptions.landing
    weeks = np.array([age.weeks for age in landing.ages] if landing else [0])
    share = np.array([age.share for age in landing.ages] if landing else [1.0])
    is_well = (weeks == 0) | (weeks * DAYS_PER_WEEK < fleet.classes.missing_after[:, np.newaxis])
    well = (share * is_well).sum(axis=1)
    leave = landing.supported_leave_product.value if landing else 0.0
    leave_out = landing.unsupported_leave_product.value if landing else 0.0
    own, successor = well[fleet.own], well[fleet.successor]
    stays = np.where(fleet.classes.ended_after[fleet.own] < FAR, 0.0, own)
    supported = (1 - leave) * own + leave * successor
    return Exits(
        supported=supported,
        unsupported=(1 - leave_out) * stays + leave_out * successor,
        to_own=np.divide((1 - leave) * own, supported, out=np.zeros_like(own), where=supported > 0),
        ages=weeks,
        shares=np.divide(
            share * is_well, well[:, np.newaxis], out=np.zeros(is_well.shape), where=well[:, np.newaxis] > 0
        ),
        well=well,
        leave_unsupported=leave_out,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Returning:
    """What does not depend on stages. Weeks run from 0, which is day 0 alone; arrays go by week, class, age.

    hazard, unsupported: of each week since the missing update, and since the end of support, where nothing is met;
    here, unsupported_here: the share not retired in it; updates: the chance that a week brings one. weights, values:
    (lasting, passing) multipliers. clean: (2, classes), servers and their mail a day that miss nothing on day 0.
    weights: (servers and mail, groups); first: of each pair of classes, its first group; own, successor: its classes;
    week: of each piece; pattern: days of mean mail in it. subject: share of a class's mail that the policy may touch.
    next: where those of a class land who are out of support. mail: messages a day of each group.
    """

    n_weeks: int
    hazard: Floats
    unsupported: Floats
    here: Floats
    unsupported_here: Floats
    updates: Floats
    lasting: tuple[Floats, Floats]
    passing: tuple[Floats, Floats]
    passing_variance: float
    clean: Floats
    weights: Floats
    first: Ints
    own: Ints
    successor: Ints
    next: Ints
    week: Ints
    pattern: Floats
    subject: Floats
    mail: Floats
    exits: Exits

    @property
    def is_some(self) -> bool:
        """Whether anybody comes back: without updates, and with landings that miss nothing, nobody does."""
        return bool(self.updates.any() or (self.exits.shares[:, self.exits.ages > 0] > 0).any())


def returning(
    fleet: ExpectedFleet, assumptions: Assumptions, hazard: Hazard, retiring: Hazard, exits: Exits
) -> Returning:
    """Sum up by weeks what returns rest on."""
    n_weeks = -(-fleet.n_days // DAYS_PER_WEEK)
    n_ages = n_weeks + exits.oldest_week + 2
    figures = assumptions.multipliers
    shapes = [inf if figure is None else figure.value for figure in (
        figures.tenant_shape if figures else None,
        figures.tenant_half_year_shape if figures else None,
        figures.common_half_year_shape if figures else None,
    )]  # fmt: skip
    variance = (1 + 1 / shapes[1]) * (1 + 1 / shapes[2]) - 1
    mail = fleet.volume.mean(axis=0)
    first = np.append(0, np.flatnonzero(np.diff(fleet.own) | np.diff(fleet.successor)) + 1)
    n = len(fleet.classes.ended)
    clean = np.zeros((2, n))
    is_clean = (fleet.since >= FAR) & (fleet.ended > 0)
    for row, weight in enumerate((fleet.servers, mail)):
        np.add.at(clean[row], fleet.own[is_clean], weight[is_clean])
    touched, sent = np.zeros(n), np.zeros(n)
    for of in (fleet.own, fleet.successor):
        np.add.at(touched, of, fleet.subject.mean(axis=0))
        np.add.at(sent, of, mail)
    following = np.zeros((n, n))
    np.add.at(following, (fleet.own, fleet.successor), fleet.servers)
    per_day = fleet.mail_a_day / max(float(fleet.mail_a_day[:DAYS_PER_WEEK].mean()), 1e-300)
    return Returning(
        n_weeks=n_weeks,
        hazard=_weekly(hazard.supported, n_ages),
        unsupported=_weekly(hazard.unsupported, n_ages),
        here=np.exp(-_weekly(retiring.supported, n_ages)),
        unsupported_here=np.exp(-_weekly(retiring.unsupported, n_ages)),
        updates=_updates(fleet, assumptions, n_weeks),
        lasting=gauss_nodes(shapes[0], _NODES),
        passing=gauss_nodes(inf if variance == 0 else 1 / variance, _NODES),
        passing_variance=variance,
        clean=clean,
        weights=np.stack([fleet.servers, mail]),
        first=first,
        own=fleet.own[first],
        successor=fleet.successor[first],
        next=following.argmax(axis=1),
        week=-(-fleet.grid.ends // DAYS_PER_WEEK),
        pattern=np.add.reduceat(per_day, fleet.grid.ends - fleet.grid.sizes + 1),
        subject=np.divide(touched, sent, out=np.zeros(n), where=sent > 0),
        mail=mail,
        exits=exits,
    )


def _weekly(sums: Floats, n: int) -> Floats:
    return np.diff(sums[np.arange(n + 1) * DAYS_PER_WEEK])


def _updates(fleet: ExpectedFleet, assumptions: Assumptions, n_weeks: int) -> Floats:
    chance = np.zeros(n_weeks + 1)
    if assumptions.updates is not None:
        weeks = [-(-(update.date - fleet.as_of).days // DAYS_PER_WEEK) for update in assumptions.updates]
        chance[[week for week in weeks if 0 < week <= n_weeks]] = 1.0
    elif assumptions.updates_per_year is not None:
        chance[1:] = 1 - np.exp(-assumptions.updates_per_year.value / _WEEKS_PER_YEAR)
    return chance


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocked:
    """What the stages of some schedules bring, summed up along the clock of a spell from 0: (schedules, clocks + 1)."""

    factor: Floats
    delayed: Floats
    lost: Floats


def flows(by: Returning, acts: Floats, supported: Floats) -> Floats:
    """Add up by week who exits into each class: (weeks, servers and mail, classes).

    acts, and supported, the share of them that lands in its own product: (groups, pieces).
    """
    n_classes = len(by.subject)
    starts = np.searchsorted(by.week, np.arange(by.n_weeks + 1))
    found = np.zeros((by.n_weeks + 1, 2, n_classes))
    to_own, everyone = _of_pairs(by, acts * supported), _of_pairs(by, acts)
    for target, part in ((by.own, to_own), (by.successor, everyone - to_own)):
        np.add.at(found.transpose(2, 1, 0), target, np.add.reduceat(part, starts, axis=2).swapaxes(0, 1))
    return found


def _of_pairs(by: Returning, some: Floats) -> Floats:
    """Add up the groups of each pair of classes: (weights, pairs, pieces)."""
    found = np.empty((len(by.weights), len(by.first), some.shape[1]))
    for pair, (start, stop) in enumerate(pairwise([*by.first.tolist(), len(some)])):
        # Not as a product of matrices: the library for these starts threads of its own, which wait for one another.
        np.einsum("wg,gk->wk", by.weights[:, start:stop], some[start:stop], out=found[:, pair])
    return found


def course_of_returns(fleet: ExpectedFleet, by: Returning, met: Clocked, inflow: Floats, hazards: Floats) -> Floats:
    """Give what comes of them by piece: vulnerable servers, and messages at risk and delivered, delayed, lost.

    All arrays begin with schedules. inflow: as from `flows`; hazards: (schedules, 2, weeks), what those who act had
    summed up in the half-year, and in the ones before. Returns (schedules, 4, pieces).
    """
    classes, n_weeks = fleet.classes, by.n_weeks
    (z, z_weights), (m, m_weights) = by.lasting, by.passing
    value = (z[:, np.newaxis] * m).ravel()
    weight = (z_weights[:, np.newaxis] * m_weights).ravel()
    n_ages, n, size = len(by.hazard), len(classes.ended), len(inflow)
    arriving = _nodes_of_acts(by, value, weight, hazards)[:, :, np.newaxis, :, np.newaxis] * inflow[:, :, :, np.newaxis]
    state = np.zeros((size, 2, len(value), n, 1 + n_ages))  # the first place: nothing is missing
    state[..., 0] = weight[:, np.newaxis] * by.clean[:, np.newaxis]
    out = np.zeros((size, 2, len(value), n, n_ages))
    history = np.empty((size, n_weeks + 1, 2, n, 1 + n_ages))
    landing = np.zeros((n, 1 + n_ages))
    for place, age in enumerate(by.exits.ages):
        if age <= by.exits.oldest_week:
            landing[:, age + 1 if age else 0] += by.exits.shares[:, place]
    ends = np.where((classes.ended > 0) & (classes.ended <= fleet.n_days), -(-classes.ended // DAYS_PER_WEEK), -1)
    has_out, moves = bool((ends > 0).any()), _moves(fleet)
    out_history = np.zeros((size, n_weeks + 1, 2, n, n_ages)) if has_out else None
    places = np.flatnonzero(landing.any(axis=0))
    state[..., places] += arriving[:, 0, ..., np.newaxis] * landing[:, places]
    thinned = value[:, np.newaxis, np.newaxis] * by.exits.well[:, np.newaxis] * by.hazard

    def keeps(week: int) -> Floats:
        factor = _clocked(classes.missing_after, classes.starts, met.factor, (n_ages, week), rest=1.0)
        return np.exp(-thinned * factor[:, np.newaxis, np.newaxis])

    kept = keeps(n_weeks)
    np.sum(state, axis=2, out=history[:, 0])
    for week in range(1, n_weeks + 1):
        if moves:
            kept = keeps(week)
        if week > 1 and (week - 1) % _HALF_YEAR == 0:
            state, out = _redrawn(state, m_weights), _redrawn(out, m_weights)
        np.sum(state, axis=2, out=history[:, week])
        ages = state[..., 1:] * kept
        landed = arriving[:, week] + (state[..., 1:].sum(axis=4) - ages.sum(axis=4))
        coming = state[..., 0] * by.updates[week]
        state[..., 0] -= coming
        np.multiply(ages[..., :-1], by.here[:-1], out=state[..., 2:])
        state[..., 1] = coming
        state[..., places] += landed[..., np.newaxis] * landing[:, places]
        if out_history is not None:
            np.sum(out, axis=2, out=out_history[:, week])
            out = _step_out(fleet, by, met, week, (out, state, landing, value))
            for place in np.flatnonzero(ends == week).tolist():
                out[..., place, 0] += state[..., place, :].sum(axis=3)
                state[..., place, :] = 0
    return _told(fleet, by, met, history[..., 1:], out_history)


def _moves(fleet: ExpectedFleet) -> bool:
    """Whether a cohort begins on the way."""
    starts = fleet.classes.starts
    return bool(((starts > 0) & (starts <= fleet.n_days)).any())


def _nodes_of_acts(by: Returning, value: Floats, weight: Floats, hazards: Floats) -> Floats:
    """Give how likely the multipliers of those who act are: (schedules, weeks, nodes).

    As likely as they act, which is as the multiplier is high, and as they have waited till then.
    """
    variance = by.passing_variance
    lasting = np.repeat(by.lasting[0], len(by.passing[0]))
    before = hazards[:, 1, :, np.newaxis] * lasting
    waited = np.exp(-before) if variance == 0 else (1 + before * variance) ** (-1 / variance)
    found = weight * value * np.exp(-hazards[:, 0, :, np.newaxis] * value) * waited
    return found / np.maximum(found.sum(axis=2, keepdims=True), 1e-300)


def _redrawn(state: Floats, weights: Floats) -> Floats:
    """Draw the passing multiplier anew."""
    parts = state.reshape(*state.shape[:2], -1, len(weights), *state.shape[3:])
    whole = parts.sum(axis=3, keepdims=True) * weights[:, np.newaxis, np.newaxis]
    return whole.reshape(state.shape)


def _step_out(
    fleet: ExpectedFleet, by: Returning, met: Clocked, week: int, parts: tuple[Floats, Floats, Floats, Floats]
) -> Floats:
    """Move those out of support a week on; who lands in the successor joins the state."""
    out, state, landing, value = parts
    classes = fleet.classes
    factor = _clocked(classes.ended_after, classes.starts, met.factor, (out.shape[-1], week), rest=1.0)
    share = by.exits.leave_unsupported * by.exits.well[by.next]
    rate = share[:, np.newaxis] * by.unsupported * factor
    kept = np.exp(-value[:, np.newaxis, np.newaxis] * rate[:, np.newaxis, np.newaxis])
    left = out * kept
    acts = (out - left).sum(axis=4)
    for place, target in enumerate(by.next.tolist()):
        state[..., target, :] += acts[..., place, np.newaxis] * landing[target]
    moved = np.zeros_like(out)
    np.multiply(left[..., :-1], by.unsupported_here[:-1], out=moved[..., 1:])
    return moved


def _clocked(after: Ints, starts: Ints, sums: Floats, when: tuple[int, int], *, rest: float) -> Floats:
    """Give the mean over each week of age of what stages bring, `rest` where none is met: (schedules, classes, ages).

    when: how many ages, and the week, which tells how long cohorts have been on.
    """
    n_ages, week = when
    first = np.arange(n_ages) * DAYS_PER_WEEK - after[:, np.newaxis]
    begun = np.maximum(week * DAYS_PER_WEEK - np.maximum(starts, 0), 0)[:, np.newaxis]
    top = sums.shape[1] - 1
    until = np.clip(np.minimum(first + DAYS_PER_WEEK, begun), 0, top)
    before = np.minimum(np.clip(np.minimum(first, begun - DAYS_PER_WEEK), 0, top), until)
    return (sums[:, until] - sums[:, before] + rest * (DAYS_PER_WEEK - until + before)) / DAYS_PER_WEEK


def _told(fleet: ExpectedFleet, by: Returning, met: Clocked, ages: Floats, out: Floats | None) -> Floats:
    classes, n_weeks = fleet.classes, by.n_weeks
    found = np.zeros((len(ages), 4, n_weeks + 1))
    weeks = (
        [(week, slice(week, week + 1)) for week in range(n_weeks + 1)] if _moves(fleet) else [(n_weeks, slice(None))]
    )
    for state, after, risk_after in (
        (ages, classes.missing_after, classes.risk_missing_after),
        (out, classes.ended_after, classes.risk_ended_after),
    ):
        if state is None:
            continue
        n_ages = state.shape[-1]
        is_risk = _share_after(risk_after, n_ages)
        found[:, 0] += np.einsum("bwca,ca->bw", state[:, :, 0], is_risk)
        mail = state[:, :, 1]
        found[:, 1] += np.einsum("bwca,ca->bw", mail, is_risk)
        for week, span in weeks:
            late, gone = (
                by.subject[:, np.newaxis] * _clocked(after, classes.starts, sums, (n_ages, week), rest=0.0)
                for sums in (met.delayed, met.lost)
            )
            some = mail[:, span]
            found[:, 1, span] -= np.einsum("bwca,bca->bw", some, gone * is_risk)
            found[:, 2, span] += np.einsum("bwca,bca->bw", some, late)
            found[:, 3, span] += np.einsum("bwca,bca->bw", some, gone)
    by_piece = found[:, :, by.week]
    by_piece[:, 1:] *= by.pattern
    return by_piece


def _share_after(after: Ints, n_ages: int) -> Floats:
    """Give the share of each week of age that lies so many days or more behind its beginning."""
    return np.clip((np.arange(n_ages) + 1) - after[:, np.newaxis] / DAYS_PER_WEEK, 0, 1)
