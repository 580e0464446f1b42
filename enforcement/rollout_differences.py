"""Policies against each other in what may happen: differences draw by draw, as all of them meet the same chance."""

from typing import Final

import polars as pl

from enforcement.chance import Floats
from enforcement.rollout import Rollout
from enforcement.rollout_bands import QUANTILES, SUMMED, bands

_MEDIAN: Final = list(QUANTILES).index("median")
# What is set against each other; less is better of each.
COMPARED: Final = (*SUMMED, "tenants_hit", "vulnerable_servers")


def wholes(of: Rollout) -> dict[str, Floats]:
    """Give one number a draw of each of COMPARED: (policies, draws).

    Messages (accepted_vulnerable, delayed, lost) of all days to come together, tenants hit on the day with most,
    servers vulnerable on the last day.
    """
    found = {measure: of.outcomes[measure][:, :, 1:].sum(axis=2) for measure in SUMMED}
    return found | {
        "tenants_hit": of.outcomes["tenants_hit"][:, :, 1:].max(axis=2),
        "vulnerable_servers": of.outcomes["vulnerable_servers"][:, :, -1],
    }


def differences_frame(of: Rollout, against: str) -> pl.DataFrame:
    """Set every other policy against one, draw by draw, in COMPARED.

    Columns policy, measure, value and against (their medians), the bands of the difference (below 0: less than the
    other) with its mean, and share_of_draws in which the policy has less; ties count half.
    """
    base = of.policies.index(against)
    rows = []
    for place, policy in enumerate(of.policies):
        for measure, values in wholes(of).items() if place != base else ():
            less = values[place] - values[base]
            rows.append(
                {
                    "policy": policy,
                    "measure": measure,
                    "value": float(bands(values[place])[_MEDIAN]),
                    "against": float(bands(values[base])[_MEDIAN]),
                    **dict(zip((*QUANTILES, "mean"), bands(less).tolist(), strict=True)),
                    "share_of_draws": float(((less < 0) + 0.5 * (less == 0)).mean()),
                }
            )
    columns = ("value", "against", *QUANTILES, "mean", "share_of_draws")
    return pl.DataFrame(rows, schema={"policy": pl.String, "measure": pl.String} | dict.fromkeys(columns, pl.Float64))
