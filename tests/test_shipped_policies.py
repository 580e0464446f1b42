"""The shipped policies on the default sample: what is written beside each comes out."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from expected import default_sample, expected_file, summary

from enforcement.shipped import shipped_policies
from enforcement.workbench import Setting, replay_policies


@pytest.fixture(scope="module")
def store() -> Iterator[Path]:
    with default_sample() as path:
        yield path


def test_each_shipped_policy_does_what_is_written_beside_it(store: Path) -> None:
    """Eight policies, a million messages: every count of every stage."""
    for result in replay_policies(shipped_policies(), Setting(store=store)):
        written = pl.read_csv(expected_file(result.policy.name), schema_overrides={"stage": pl.String})
        made = summary(result)
        assert made.rows() == written.with_columns(pl.col("phase").fill_null("")).rows(), result.policy.name
        totals = result.totals
        assert totals["subject"] == sum(totals[name] for name in ("at_once", "delayed", "rejected", "expired"))


def test_no_expected_result_is_left_without_a_policy() -> None:
    names = {path.name.removesuffix(".expected.csv") for path in expected_file("x").parent.glob("*.expected.csv")}
    assert names == set(shipped_policies())
