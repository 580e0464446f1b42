"""What each shipped policy does to the default sample; `python tests/expected.py` writes the files anew."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from enforcement import shipped
from enforcement.fates import COUNTS
from enforcement.intake import make_sample
from enforcement.replay import Replay
from enforcement.sample import Extent
from enforcement.workbench import Setting, replay_policies

POLICIES = shipped.DATA / "policies"


def summary(result: Replay) -> pl.DataFrame:
    """Messages by stage and what became of them, then all together: whole numbers, one sender."""
    total = result.by_stage.select(
        stage=pl.lit("all"), phase=pl.lit(""), messages=pl.col("messages").sum(), **{c: pl.col(c).sum() for c in COUNTS}
    )
    by_stage = pl.concat([result.by_stage.with_columns(pl.col("stage").cast(pl.String)), total])
    return by_stage.with_columns(pl.col("messages", *COUNTS).cast(pl.Int64))


def expected_file(policy: str) -> Path:
    return POLICIES / f"{policy}.expected.csv"


@contextmanager
def default_sample() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "traffic.duckdb"
        make_sample(store, Extent())
        yield store


if __name__ == "__main__":
    with default_sample() as sample_store:
        for one in replay_policies(shipped.shipped_policies(), Setting(store=sample_store)):
            summary(one).write_csv(expected_file(one.policy.name))
