"""What may happen: people react, draw by draw, and each policy meets the same chance."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from typing import Final

import numpy as np

from enforcement.assumptions import Assumptions
from enforcement.chance import Floats, Ints
from enforcement.life_tables import Way
from enforcement.luck import luck
from enforcement.outlook import Outlook, paused
from enforcement.response import Size, draw
from enforcement.standpoint import Standpoint
from enforcement.ways import way

# What is counted of each day; messages a day are expected ones. Delayed and lost are never added up. Tenants are hit
# when one of their servers is in a stage that delays or loses mail, whether it sends some on that day or not.
MEASURES: Final = ("vulnerable_servers", "vulnerable_tenants", "accepted_vulnerable", "delayed", "lost", "tenants_hit")
TIMES: Final = (0.5, 0.9)  # shares of the servers vulnerable today, whose last day is told


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
    # What compiles takes a third of a second to import, which other commands need not spend.
    from enforcement.lives import live, no_patience  # noqa: PLC0415 - for that reason

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
        chance, patience = luck(drawn, 0, n_days=n_days, oldest=oldest), no_patience(len(tenant))
        for place, variant in enumerate(with_pauses):
            found[:, place, number], gone = live(variant(int(drawn.pause_days[0])), chance, patience)
            times[place, number] = _times(gone, int(looks[place].is_vulnerable.sum()))

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


def _variants(look: Outlook) -> Callable[[int], Way]:
    """Give the outlook laid out with planned pauses of so many days; each is worked out once."""
    without = way(look)
    if (look.rows[0] == look.rows[1]).all():
        return lambda _: without

    @cache
    def of_days(days: int) -> Way:
        return way(paused(look, days), without.fleet)

    return of_days


def _times(gone: Ints, n: int) -> Floats:
    """Give the day by which each of TIMES of n servers vulnerable on day 0 are so no more; inf: not by the last.

    gone: by day, and at last those who stay; some were so no more when day 0 came, unseen.
    """
    if not n:
        return np.full(len(TIMES), np.nan)
    by_day = n - gone.sum() + np.cumsum(gone[:-1])
    reached = [np.flatnonzero(by_day >= share * n) for share in TIMES]
    return np.array([float(days[0]) if len(days) else np.inf for days in reached])
