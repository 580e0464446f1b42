"""All that chance says in a draw, laid out for the lives that rest on it."""

from typing import Final

import numpy as np

from enforcement.acts import Hazard
from enforcement.life_tables import Luck, Odds
from enforcement.pressure import FAR
from enforcement.response import HALF_YEAR_DAYS, Draws

_LEAST: Final = 1e-300  # a multiplier below is as good as none, and can be divided by


def luck(drawn: Draws, row: int, *, n_days: int, oldest: int) -> Luck:
    """Lay out a draw of some for so many days to come, and for builds as many days old at the end of them."""
    of_tenant = drawn.tenant[row][:, np.newaxis] * drawn.tenant_half_year[row] * drawn.common[row]
    oldest += int(drawn.landing_days.max())
    hazard, retiring = (Hazard.of(rates, row, n_days=oldest) for rates in (drawn.hazards, drawn.retirement))
    some = np.flatnonzero(drawn.landing_shares)
    bounds = np.cumsum(drawn.landing_shares[some])
    days = np.arange(n_days + 1)
    odds = Odds(
        key=drawn.keys[row],
        tenant_part=float(drawn.patience_correlation[row]),
        never_responds=float(drawn.never_responds[row]),
        supported_leave=float(drawn.supported_leave_product[row]),
        unsupported_leave=float(drawn.unsupported_leave_product[row]),
        never=FAR,
    )
    return Luck(
        odds=odds,
        hazard=np.stack([hazard.supported, hazard.unsupported]),
        retiring=np.stack([retiring.supported, retiring.unsupported]),
        factors=np.array(drawn.factors[row]),
        multipliers=np.maximum(of_tenant, _LEAST),
        half_ends=np.arange(1, of_tenant.shape[1] + 1) * HALF_YEAR_DAYS,
        next_update=np.append(drawn.updates[row], FAR)[np.searchsorted(drawn.updates[row], days, side="right")],
        pauses=np.array(drawn.pauses[row]),
        landing_bounds=bounds / bounds[-1],
        landing_days=drawn.landing_days[some],
    )
