"""What lives are made from and counted in: plain arrays, as what is compiled knows no others."""

from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from enforcement.chance import Bools, Floats, Ints

Pieces: TypeAlias = npt.NDArray[np.int16]

# A server on the day of the forecast, as in an `Outlook`: later_row is that of a spell that begins on day 0.
SERVER: Final = np.dtype([
    (name, np.int32) for name in
    ("since", "ended", "seen", "vulnerable_from", "risk_from", "row", "row_with_pause", "later_row")
])  # fmt: skip
# What rules and cohorts make of a server that has acted: once for its own product, once for the successor.
LANDED: Final = np.dtype([
    (name, np.int32) for name in ("ended", "after_missing", "after_unsupported", "risk_after_missing",
                                  "risk_after_unsupported", "cohort_starts", "same_cohort")
])  # fmt: skip


class Odds(NamedTuple):
    """Numbers of a draw: the key of its random numbers, and shares, of servers and of what decides.

    tenant_part: of the tenant, in patience; supported_leave, unsupported_leave: the product, of those who act.
    never: a day that no forecast reaches.
    """

    key: np.uint64
    tenant_part: float
    never_responds: float
    supported_leave: float
    unsupported_leave: float
    never: int


class Luck(NamedTuple):
    """All that chance says in a draw; no policy enters.

    hazard: of acting, (2, days + 1), summed up over days since the first missing update and since the end of support,
    which goes before, the number of days being the place; retiring: that of retirement. factors: by level;
    multipliers: (tenants, half-years), half_ends: the last days of these; next_update: of each day, the day of the
    next one after it; pauses: whether each tenant pauses; landing_bounds: rising, of the shares that go with
    landing_days, the ages of the first missing update of builds arrived at (0: none is missing).
    """

    odds: Odds
    hazard: Floats
    retiring: Floats
    factors: Floats
    multipliers: Floats
    half_ends: Ints
    next_update: Ints
    pauses: Bools
    landing_bounds: Floats
    landing_days: Ints


class Fleet(NamedTuple):
    """The servers of an `Outlook`, as plain arrays.

    weekdays: of each day; first: of each tenant's servers, and one more at the end; servers: of SERVER; landed:
    (servers, 2) of LANDED; volume, subject: messages a day, (servers, weekdays).
    """

    n_days: int
    has_other_risk: bool
    weekdays: Ints
    first: Ints
    servers: npt.NDArray[Any]
    landed: npt.NDArray[Any]
    volume: Floats
    subject: Floats


class Way(NamedTuple):
    """How a fleet meets a policy: what its servers' rows say, those of an outlook's pressure.

    begins: the first day under enforcement; ends, levels: (rows, pieces of like level); starts: (rows, pieces of like
    stage), shares: (rows, pieces, 2) of mail delayed and lost, piece_before: (rows, days), of the day before each;
    hits: (rows, runs, 2) days on which mail begins to be delayed or lost, and no longer is.
    """

    fleet: Fleet
    begins: Ints
    ends: Ints
    levels: Ints
    starts: Ints
    shares: Floats
    piece_before: Pieces
    hits: Ints


class Counts(NamedTuple):
    """What is counted while servers live; changes are of a day against the one before.

    at_risk: changes in how many servers count as vulnerable; tenants: the same of tenants, and of those that are hit;
    spans, n_spans: the days of one tenant, as yet; gone: by day, those at risk since day 0 that are so no more from it
    on; mail: changes of mail at risk, by weekday; harm: of that delayed and lost; entering: mail that comes to a piece,
    by row: these two of all servers, and of those that do not count as vulnerable; found: (measures, days).
    """

    at_risk: Ints
    tenants: Ints
    spans: Ints
    n_spans: Ints
    gone: Ints
    mail: Floats
    harm: Floats
    entering: Floats
    found: Floats
