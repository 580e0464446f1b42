"""Which assumption moves the answer most: each figure over its own 90 % range, the others at their value.

But for factors, which may not fall from a measure to a harder one: neighbours that would break that move along.
"""

from collections.abc import Callable
from typing import Final

import polars as pl

from enforcement.assumptions import Assumptions
from enforcement.expected import Schedule, course, prepare
from enforcement.expected_fleet import ExpectedFleet

# What can be asked for: the row of `course`, and whether days are summed up or the last one counts.
MEASURES: Final = {"vulnerable": (0, False), "risk": (1, True), "delayed": (2, True), "lost": (3, True)}
# An expected course has the same mean however servers of a tenant hang together: no range of this can move it.
IGNORED: Final = frozenset({"patience_correlation"})


def sensitivity(
    fleet: ExpectedFleet,
    schedule: Schedule,
    assumptions: Assumptions,
    measure: str,
    report: Callable[[int, int], None] = lambda *_: None,
) -> pl.DataFrame:
    """Give a row for each figure that has a range, but for those IGNORED, the one that moves the answer most first.

    Columns figure, value, low, high (the ends of its range), answer (at its value), at_low, at_high, swing (how far
    apart these two are), is_guess, source, moves_too (the other figures that do not stay at their value). measure:
    vulnerable (servers on the last day), or risk, delayed or lost (messages over all days to come; the risk left are
    messages of vulnerable servers that are delivered).
    """
    if measure not in MEASURES:
        raise ValueError(f"no measure {measure[:40]!r} (expected one of {', '.join(MEASURES)})")
    row, is_sum = MEASURES[measure]

    def answer(supposed: Assumptions) -> float:
        found = course(prepare(fleet, supposed), schedule)[row]
        return float(found[1:].sum() if is_sum else found[-1])

    every = assumptions.figures()
    figures = {
        key: figure for key, figure in every.items() if figure.range90[0] < figure.range90[1] and key not in IGNORED
    }
    at_value = answer(assumptions)
    rows = []
    for done, (key, figure) in enumerate(figures.items(), start=1):
        low, high = figure.range90
        supposed = [_with(assumptions, key, end) for end in (low, high)]
        at_low, at_high = map(answer, supposed)
        moved = {name for each in supposed for name, at in each.figures().items() if at.value != every[name].value}
        others = ", ".join(name for name in every if name in moved - {key})
        rows.append((key, figure.value, low, high, at_value, at_low, at_high, figure.is_guess, figure.source, others))
        report(done, len(figures))
    schema = {"figure": pl.String, "value": pl.Float64, "low": pl.Float64, "high": pl.Float64, "answer": pl.Float64,
              "at_low": pl.Float64, "at_high": pl.Float64, "is_guess": pl.Boolean, "source": pl.String,
              "moves_too": pl.String}  # fmt: skip
    table = pl.DataFrame(rows, schema=schema, orient="row")
    return table.with_columns(swing=(pl.col("at_high") - pl.col("at_low")).abs()).sort(
        "swing", "figure", descending=[True, False]
    )


def tornado_picture(table: pl.DataFrame, *, at_most: int = 15) -> pl.DataFrame:
    """Give the table of `charts_frontier.tornado`: two rows a figure, its low and its high end, widest swing first."""
    top = table.head(at_most).filter(pl.col("swing") > 0)
    ends = [
        top.select(
            "figure",
            "answer",
            "is_guess",
            "moves_too",
            "value",
            "swing",
            place=pl.int_range(pl.len()),
            end=pl.lit(f"at its {end} end"),
            set_to=pl.col(end),
            at=pl.col(f"at_{end}"),
        )
        for end in ("low", "high")
    ]
    label = pl.when(pl.col("is_guess")).then(pl.format("{} (guess)", "figure")).otherwise("figure")
    notes = [] if top.height == table.height else [f"{top.height} of {table.height} figures that have a range"]
    if (top["moves_too"] != "").any():
        notes.append("factors do not fall with harder measures: others move along to keep their order")
    return (
        pl.concat(ends)
        .with_columns(label=label, note=pl.lit("; ".join(notes)))
        .sort("place", "end", descending=[False, True])
    )


def _with(assumptions: Assumptions, key: str, value: float) -> Assumptions:
    """Set a figure; a factor is no less than 1, whatever its range's end is, and others move to keep their order."""
    if key.startswith("factors."):
        value = max(1.0, value)
    return assumptions.with_value(key, value)
