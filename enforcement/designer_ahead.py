"""What is expected of the days to come under a policy being designed: the fleet made ready once, then a redraw each."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from enforcement.designer_view import shares
from enforcement.expected import Prepared, course, prepare, schedules
from enforcement.expected_fleet import expected_fleet
from enforcement.fates import Floats
from enforcement.forecasts import HORIZON_DAYS, people, standpoint_of
from enforcement.policy import Policy
from enforcement.verdict import Sender
from enforcement.workbench import Setting, opened_history

_STEP_DAYS: Final = 7  # a picture of a year shows no single days


@dataclass(frozen=True, kw_only=True, eq=False)
class Ahead:
    """A fleet under a policy's rules and under the baseline's (or under none), and the mail of each day to come."""

    fleet: Prepared
    baseline: Prepared
    senders: Sequence[Sender]
    mail: Floats
    as_of: str
    n_guesses: int


def ahead(policy: Policy, baseline: Policy | None, setting: Setting) -> Ahead:
    """Make the fleet of the setting's last day ready: under no baseline, the policy's own rules say what a risk is."""
    assumptions = people(setting)
    background = setting.background()
    with opened_history(setting) as history:
        at = standpoint_of(history, policy if baseline is None else baseline, setting)
        made = partial(expected_fleet, at, background=background, n_days=HORIZON_DAYS, step=_STEP_DAYS)
        of_baseline = made(policy=baseline or policy, enforced=baseline is not None)
        own = made(policy=policy, risk_by=of_baseline.rules)
    return Ahead(
        fleet=prepare(own, assumptions),
        baseline=prepare(of_baseline, assumptions),
        senders=background.senders,
        mail=own.mail_a_day,
        as_of=str(at.as_of),
        n_guesses=len(assumptions.guesses()),
    )


def expected_of(ready: Ahead, policy: Policy) -> dict[str, Any]:
    """Give what is expected of a policy, by day from the standpoint on: shares of the day's mail, and servers."""
    return _drawn(ready, ready.fleet, policy)


def expected_of_baseline(ready: Ahead, baseline: Policy | None, policy: Policy) -> dict[str, Any]:
    """Give what is expected of the baseline; of none: the fleet meets nothing, whatever the stages are."""
    return _drawn(ready, ready.baseline, baseline or policy)


def _drawn(ready: Ahead, fleet: Prepared, policy: Policy) -> dict[str, Any]:
    grid = fleet.fleet.grid
    servers, risk_left, delayed, lost = course(fleet, schedules([policy], ready.senders)[0])
    messages = {"delayed": delayed, "lost": lost, "risk_left": risk_left}
    of_piece = np.add.reduceat(ready.mail, grid.ends - grid.sizes + 1)
    mail = float(of_piece[1:].sum())  # day 0 is past
    return {
        "days": grid.ends.tolist(),
        "by_day": {name: shares(each, of_piece) for name, each in messages.items()},
        "servers": np.round(servers, 1).tolist(),
        "totals": {name: float(each[1:].sum()) for name, each in messages.items()},
        "shares": {name: float(each[1:].sum()) / mail if mail else None for name, each in messages.items()},
    }
