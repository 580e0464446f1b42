"""Builds to come: what rules say of those that servers may land on, of which little is known."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Final

import numpy as np
import polars as pl

from enforcement.builds import Evidence
from enforcement.catalogue import PRODUCTS, Catalogue
from enforcement.chance import Ints
from enforcement.policy import Policy, Rule, Since
from enforcement.pressure import FAR
from enforcement.when import when_expression

SUCCESSOR: Final = PRODUCTS[-1]  # where those land who leave their product


def known_on(catalogue: Catalogue, day: date) -> Catalogue:
    """Leave out the updates that came later: a build that is current on a day gets a simulated next one.

    >>> known_on(Catalogue(releases=(), exploits=(), support_ends={}), date(2024, 1, 1)).releases
    ()
    """
    return replace(
        catalogue,
        releases=tuple(
            replace(release, is_security=release.is_security and release.released_on <= day)
            for release in catalogue.releases
        ),
        exploits=tuple(
            replace(exploit, fixes=tuple(fix for fix in exploit.fixes if fix.released_on <= day))
            for exploit in catalogue.exploits
            if exploit.listed_on <= day
        ),
    )


def after_days(policy: Policy, products: Sequence[str], hops: Sequence[str]) -> tuple[Ints, Ints]:
    """Give the days until a missing update, and the end of support, make builds vulnerable: (2, servers) each.

    A rule's condition on more than product and hop is asked of a build of which the rest is not known.

    >>> from enforcement.policy import Cohort, Stage
    >>> rules = [{"name": "a", "since": "missing_since", "after_days": 90}]
    >>> policy = Policy(schema_version=1, name="x", rules=rules, stages=[Stage(block=60)],
    ...     cohorts=[Cohort(name="all", starts_on=date(2026, 1, 1))])
    >>> missing, unsupported = after_days(policy, ["Exchange Server 2016"], ["smtp"])
    >>> missing.tolist(), bool((unsupported == FAR).all())
    ([[90], [90]], True)
    """
    own = list(zip(products, hops, strict=True))
    every = sorted({*own, *((SUCCESSOR, hop) for hop in hops)})
    place = {kind: at for at, kind in enumerate(every)}
    rows = _builds_to_come([product for product, _ in every], [hop for _, hop in every])
    found = []
    for since in (Since.MISSING_SINCE, Since.UNSUPPORTED_SINCE):
        after = np.full(len(every), FAR)
        for rule in policy.rules:
            if rule.since is since:
                applies = _applies(rule, rows).fill_null(value=False)
                after = np.where(applies, np.minimum(after, rule.after_days), after)
        found.append(np.stack([after[[place[kind] for kind in own]], after[[place[SUCCESSOR, hop] for hop in hops]]]))
    return found[0], found[1]


def not_applied(policy: Policy) -> tuple[str, ...]:
    """Name the rules that servers which have acted are not judged by, as too little is known of their builds to come.

    >>> from enforcement.policy import Cohort, Stage
    >>> rules = [{"name": "a", "since": "missing_since"}, {"name": "b", "since": "exploited_since"},
    ...     {"name": "c", "since": "missing_since", "when": "build < '15.2'"}]
    >>> cohorts = [Cohort(name="all", starts_on=date(2026, 1, 1))]
    >>> not_applied(Policy(schema_version=1, name="x", rules=rules, cohorts=cohorts, stages=[Stage(block=60)]))
    ('b', 'c')
    """
    rows = _builds_to_come(list(PRODUCTS), ["smtp"] * len(PRODUCTS))
    known = (Since.MISSING_SINCE, Since.UNSUPPORTED_SINCE)
    return tuple(rule.name for rule in policy.rules if rule.since not in known or _applies(rule, rows).null_count() > 0)


def _builds_to_come(products: Sequence[str], hops: Sequence[str]) -> pl.DataFrame:
    unknown = {name: pl.lit(None, dtype=pl.String) for name in ("line", "update", "kind", "build")}
    dates = {str(since): pl.lit(None, dtype=pl.Date) for since in Since}
    table = pl.DataFrame({"product": products, "hop": hops}, schema={"product": pl.String, "hop": pl.String})
    return table.with_columns(evidence=pl.lit(Evidence.EXACT.value), **unknown, **dates)


def _applies(rule: Rule, rows: pl.DataFrame) -> pl.Series:
    """Tell of which builds a rule's condition holds; null where that is not known."""
    if rule.when is None:
        return pl.Series([True] * rows.height, dtype=pl.Boolean)
    return rows.select(when_expression(rule.when)).to_series()
