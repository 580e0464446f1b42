"""What may happen: people react, draw by draw, and each policy meets the same chance."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from typing import Final

import numpy as np

from enforcement.acts import Hazard, Reaction
from enforcement.assumptions import Assumptions
from enforcement.chance import Floats, Ints
from enforcement.lives import Fortune, Numbers, Spans, lives
from enforcement.outlook import Outlook, paused
from enforcement.response import Draws, Size, draw, landing, leaving, patience_when_asked, retirement_patience
from enforcement.rollout_days import MEASURES, Schedules, outcomes
from enforcement.standpoint import Standpoint

TIMES: Final = (0.5, 0.9)  # shares of the servers vulnerable today, whose last day is told
_LEAST: Final = 1e-300  # a multiplier below is as good as none, and can be divided by


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """What may happen under some policies: outcomes[measure] is (policies, draws, days + 1), of MEASURES.

    times: (policies, draws, TIMES), the day by which so many of the servers vulnerable on day 0 are so no more,
    inf when not by the last day.
    """

    policies: tuple[str, ...]
    as_of: date
    n_days: int
    n_draws: int
    seed: int
    n_servers: int
    n_tenants: int
    n_vulnerable: tuple[int, ...]
    n_vulnerable_tenants: tuple[int, ...]
    outcomes: dict[str, Floats]
    times: Floats

    @property
    def days(self) -> list[date]:
        """The days, the standpoint's first."""
        return [self.as_of + timedelta(days=day) for day in range(self.n_days + 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """How many draws are made from which seed, and by how many threads; these change no number."""

    n_draws: int = 1000
    seed: int = 1
    threads: int = 2


def rollout(
    at: Standpoint,
    outlooks: Sequence[tuple[str, Outlook]],
    assumptions: Assumptions,
    trial: Trial,
    report: Callable[[int], None] = lambda _: None,
) -> Rollout:
    """Draw what may happen under outlooks of a standpoint; a draw is the same alone or with others.

    A server that acts on a day is on its new build from that day on. What is counted of a day is expected mail.
    """
    looks = [look for _, look in outlooks]
    n_days, tenant, n_draws, as_of = looks[0].n_days, at.tenant, trial.n_draws, at.as_of
    if n_draws < 1:
        raise ValueError(f"{n_draws} draws (expected 1 or more)")
    if not any(look.is_vulnerable.any() for look in looks):
        raise LookupError(f"no server in sight is vulnerable on {as_of} (nothing to forecast; give another --as-of)")
    size = Size(n_draws=n_draws, n_tenants=len(at.tenants), horizon_days=n_days)
    found = np.empty((len(MEASURES), len(looks), n_draws, n_days + 1))
    times = np.empty((len(looks), n_draws, len(TIMES)))
    oldest = n_days + 1 - min(int(min(look.since.min(), look.ended.min(), look.seen.min())) for look in looks)
    with_pauses = [_variants(look) for look in looks]

    def one(number: int) -> None:
        drawn = draw(assumptions, size, as_of=as_of, seed=trial.seed, draws=slice(number, number + 1))
        chance = _fortune(drawn, tenant, oldest)
        for place, variant in enumerate(with_pauses):
            look, way = variant(int(drawn.pause_days[0]))
            lived = lives(look, chance)
            found[:, place, number] = outcomes(look, way, lived)
            times[place, number] = _times(look, lived.vulnerable)

    with ThreadPoolExecutor(trial.threads) as pool:
        for done, _ in enumerate(pool.map(one, range(n_draws)), start=1):
            report(done)
    return Rollout(
        policies=tuple(name for name, _ in outlooks),
        as_of=as_of,
        n_days=n_days,
        n_draws=n_draws,
        seed=trial.seed,
        n_servers=len(tenant),
        n_tenants=size.n_tenants,
        n_vulnerable=tuple(int(look.is_vulnerable.sum()) for look in looks),
        n_vulnerable_tenants=tuple(len(np.unique(look.tenant[look.is_vulnerable])) for look in looks),
        outcomes=dict(zip(MEASURES, found, strict=True)),
        times=times,
    )


def _fortune(drawn: Draws, tenant: Ints, oldest: int) -> Fortune:
    """Give what chance says in a draw; the numbers of a round are drawn when first asked for, and kept."""

    @cache
    def of_round(round_: int) -> Numbers:
        n = len(tenant)
        return Numbers(
            patience=patience_when_asked(drawn, tenant, round_),
            retirement=retirement_patience(drawn, n, round_)[0],
            age=landing(drawn, n, round_)[0],
            leaving=leaving(drawn, n, round_)[0],
        )

    of_tenant = drawn.tenant[0] * drawn.tenant_half_year[0].T  # (half-years, tenants)
    multipliers = np.maximum(of_tenant * drawn.common[0][:, np.newaxis], _LEAST)
    n_days = oldest + int(drawn.landing_days.max())
    hazard = Hazard.of(drawn.hazards, 0, n_days=n_days)
    return Fortune(
        of_round=of_round,
        by=Reaction(hazard=hazard, factors=drawn.factors[0], multipliers=multipliers),
        retiring=Hazard.of(drawn.retirement, 0, n_days=n_days),
        updates=drawn.updates[0],
        pauses=drawn.pauses[0],
        supported_leave_product=float(drawn.supported_leave_product[0]),
        unsupported_leave_product=float(drawn.unsupported_leave_product[0]),
    )


def _variants(look: Outlook) -> Callable[[int], tuple[Outlook, Schedules]]:
    """Give the outlook with planned pauses of so many days, and its schedules; each is worked out once."""
    has_pauses = bool((look.rows[0] != look.rows[1]).any())

    @cache
    def of_days(days: int) -> tuple[Outlook, Schedules]:
        chosen = paused(look, days)
        return chosen, Schedules.of(chosen)

    return lambda days: of_days(days if has_pauses else 0)


def _times(look: Outlook, vulnerable: Spans) -> Floats:
    """Give the day by which each of TIMES of the servers vulnerable on day 0 are so no more; inf: not by the last."""
    size = look.n_days + 1
    from_now = (vulnerable.from_day == 0) & look.is_vulnerable.take(vulnerable.server)
    until = np.bincount(vulnerable.until_day[from_now], minlength=size + 1)
    n = int(look.is_vulnerable.sum())
    gone = n - int(from_now.sum()) + np.cumsum(until[:size])
    if not n:
        return np.full(len(TIMES), np.nan)
    reached = [np.flatnonzero(gone >= share * n) for share in TIMES]
    return np.array([float(days[0]) if len(days) else np.inf for days in reached])
