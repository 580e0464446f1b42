"""Whether a policy keeps its guardrails: pass, fail, or inconclusive."""

from enum import StrEnum
from typing import Final

import polars as pl

from enforcement.policy import Guardrail

# Shares of senders are decimals: what they add up to can miss a bound by a rounding of binary fractions.
_ROUNDING: Final = 1e-9


class State(StrEnum):
    """How a guardrail stands."""

    PASS = "pass"  # noqa: S105 - a state, no password
    FAIL = "fail"  # a judged unit exceeds the bound
    INCONCLUSIVE = "inconclusive"  # none does, but too many messages lie in units too small to judge


def judge_guardrail(guardrail: Guardrail, units: pl.DataFrame) -> dict[str, object]:
    """Judge one guardrail on its units: columns unit, base (messages that the share is of), harm (those it counts).

    Units with fewer than `min_messages` are pooled into one, which is judged if it is not small itself.

    >>> rail = Guardrail(measure="lost_share_of_mail", per="day", at_most=0.02, min_messages=100)
    >>> days = pl.DataFrame({"unit": ["a", "b", "c"], "base": [500, 60, 70], "harm": [10.0, 9.0, 0.0]})
    >>> judged = judge_guardrail(rail, days)
    >>> str(judged["state"]), judged["worst_unit"], round(judged["worst_share"], 4), judged["n_judged"]
    ('fail', '2 small units together', 0.0692, 2)
    """
    is_small = pl.col("base") < guardrail.min_messages
    small = units.filter(is_small & (pl.col("base") > 0))
    pooled = small.select(
        unit=pl.format("{} small units together", pl.len()), base=pl.col("base").sum(), harm=pl.col("harm").sum()
    )
    every = pl.concat(
        [units.filter(~is_small).select("unit", "base", "harm"), pooled.select("unit", "base", "harm")],
        how="vertical_relaxed",
    ).filter(pl.col("base") > 0)
    judged = every.filter(pl.col("base") >= guardrail.min_messages).with_columns(share=pl.col("harm") / pl.col("base"))
    total = float(every["base"].sum())
    unjudged_share = 1.0 - float(judged["base"].sum()) / total if total else 1.0
    worst = judged.sort("share", "unit", descending=[True, False]).head(1)
    exceeded = judged.filter(pl.col("share") > guardrail.at_most + _ROUNDING)
    if exceeded.height:
        state = State.FAIL
    elif unjudged_share > guardrail.max_unjudged_share + _ROUNDING:
        state = State.INCONCLUSIVE
    else:
        state = State.PASS
    return {
        "measure": str(guardrail.measure),
        "per": str(guardrail.per),
        "at_most": guardrail.at_most,
        "state": state,
        "worst_unit": worst["unit"].item() if worst.height else None,
        "worst_share": worst["share"].item() if worst.height else None,
        "n_units": units.filter(pl.col("base") > 0).height,
        "n_judged": judged.height,
        "n_exceeded": exceeded.height,
        "unjudged_share": unjudged_share,
    }
