"""What a proposal changes against the baseline: in all, and for whom."""

from typing import Final

import polars as pl

from enforcement.comparison import Comparison, Named
from enforcement.fates import COUNTS
from enforcement.replay import OVER_A_TENTH_LOST, Replay

MEASURES: Final = (*COUNTS, "lost", "accepted_vulnerable")
_KEYS: Final = ["part", "of"]


def differences(compared: Comparison) -> pl.DataFrame:
    """Give each proposal's measures beside the baseline's: policy, part, of, measure, value, baseline, difference.

    `part` is what the messages are of: all, a product, or a decile of tenants by their mail (`of`), both the same
    under all policies. Against no policy all that is subject is delivered at once. The measures of all also count
    tenants and servers.
    """
    return pl.concat([_of_one(compared, proposal) for proposal in compared.proposals])


def _of_one(compared: Comparison, proposal: Named) -> pl.DataFrame:
    own = _measured(proposal.replay)
    before = _measured(compared.baseline.replay) if compared.baseline else _untouched(proposal.replay)
    return (
        own.join(before.rename({"value": "baseline"}), on=[*_KEYS, "measure"], how="left", maintain_order="left")
        .with_columns(pl.col("baseline").fill_null(0.0))
        .select(
            pl.lit(proposal.name).alias("policy"), *_KEYS, "measure", "value", "baseline",
            difference=pl.col("value") - pl.col("baseline"),
        )
    )  # fmt: skip


def _measured(replay: Replay) -> pl.DataFrame:
    return pl.concat([_long(_parts(replay)), _long(_hit(replay))])


def _untouched(replay: Replay) -> pl.DataFrame:
    """Measure no policy: nothing is delayed or lost."""
    parts = _parts(replay).with_columns(
        *(pl.lit(0.0).alias(name) for name in MEASURES if name not in ("at_once", "accepted_vulnerable")),
        at_once="subject",
        accepted_vulnerable="vulnerable",
    )
    return _long(parts)


def _parts(replay: Replay) -> pl.DataFrame:
    """Add up outcomes in all, by product and by decile."""
    columns = ("subject", "vulnerable", *MEASURES)
    of = {
        "all": pl.lit(""),
        "product": pl.col("product"),
        "decile": pl.col("decile").cast(pl.String),
    }
    return pl.concat(
        [
            replay.by_group.group_by(part=pl.lit(part), of=label)
            .agg(pl.col(columns).sum().cast(pl.Float64))
            .sort(pl.col("of").str.pad_start(2))
            for part, label in of.items()
        ]
    )


def _hit(replay: Replay) -> pl.DataFrame:
    """Count the tenants and servers that a policy harms."""
    return pl.DataFrame(
        {"part": "all", "of": ""}
        | {
            f"{unit} with {harm}": [float(hit.filter(is_harmed).height)]
            for unit, hit in (("tenants", replay.tenants), ("servers", replay.servers))
            for harm, is_harmed in (
                ("any delayed", pl.col("delayed") > 0),
                ("any lost", pl.col("lost") > 0),
                ("over a tenth of their mail lost", OVER_A_TENTH_LOST),
            )
        }
    )


def _long(wide: pl.DataFrame) -> pl.DataFrame:
    measures = [name for name in wide.columns if name not in (*_KEYS, "subject", "vulnerable")]
    return pl.concat([wide.select(*_KEYS, measure=pl.lit(name), value=name) for name in measures])
