"""Drift as people read it in a terminal: the verdict first, then what differs, then the mail that came."""

from typing import Final

import polars as pl

from enforcement.drift_volume import Why
from enforcement.drifts import Drift, drift_answer
from enforcement.terminal import Format, sentences, show, write_answer

_SHOWN: Final = 20  # pairs of tenant and stage
_MEANINGS: Final = {
    Why.NEW: "accepted as a new detection: no calendar of an export names it yet",
    Why.PATCHED: "in the calendar; what it shows now is not vulnerable",
    Why.RENAMED: "nothing seen, while `other` of the same tenant shows its build and is new",
    Why.GONE: "in the calendar and nothing seen: Received lines removed, retired, or sending elsewhere",
}


def print_drift(found: Drift, how: Format) -> None:
    """Print whether production is as expected, or what differs."""
    if how is not Format.TABLE:
        write_answer(found.volume, drift_answer(found), how)
        return
    sentences([found.sentence()])
    if found.disagreements:
        show(found.disagreeing(), title="Decisions that are not the policy's, by tenant and stage")
        show(_in_words(found.cases()), title="The first of them, and what was expected")
    show(
        found.serials().with_columns(pl.col("policy_serial").cast(pl.String)),
        title=f"Exports that decided, {found.from_on} to {found.to_on}",
    )
    if found.expected is None:
        sentences(["No direct mail of the four weeks before an export is known: nothing to compare volumes with."])
    else:
        _print_volume(found)
    if found.gaps.height:
        show(found.gaps.with_columns(pl.col("expected").round(1)), title="Servers whose mail is not as it was")
        whys = found.gaps["why"].unique(maintain_order=True)
        sentences([f"{why}: {_MEANINGS[Why(why)]}." for why in whys])


def _in_words(cases: pl.DataFrame) -> pl.DataFrame:
    """Say what was decided, and what should have been, in a column each."""
    told = [
        pl.format(
            "{}, {}{}",
            f"{prefix}verdict",
            f"{prefix}reason",
            pl.format(", stage {}", f"{prefix}stage").fill_null(""),
        ).alias(name)
        for name, prefix in (("decided", ""), ("expected", "expected_"))
    ]
    return cases.select(pl.col("at").dt.to_string("%Y-%m-%d %H:%M"), "server", "build", *told)


def _print_volume(found: Drift) -> None:
    outside = found.volume.filter(~pl.col("is_within"))
    table = found.volume.with_columns(pl.col("expected", "low", "high").round(1)).sort(
        "is_within", (pl.col("observed") - pl.col("expected")).abs(), descending=[False, True]
    )
    show(table, rows=_SHOWN, title=f"Decisions on mail under enforcement on {found.days:,} days, beside those expected")
    told = (
        f"{outside.height:,} of {found.volume.height:,} pairs of tenant and stage lie outside of what is expected;"
        " by chance one in twenty does. Expected are as many messages as on the same weekdays of the four weeks"
        " before the export, each with the retries of its sender; days count whole (--from and --to leave out those"
        " on which a log begins or ends)."
    )
    sentences([told])
