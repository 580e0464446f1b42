"""How a target did against the vectors of an export, as people read it in a terminal."""

from collections.abc import Sequence
from typing import Final

import polars as pl

from enforcement.export.conformance import Agreement
from enforcement.terminal import Format, sentences, show, write_answer

_SHOWN: Final = 10
_CASES: Final = {"target": pl.String, "asked": pl.Int64, "agree": pl.Int64, "differ": pl.Int64, "not asked": pl.Int64}
_DIFFERENCES: Final = {
    "target": pl.String, "vector": pl.Int64, "at": pl.String, "field": pl.String, "expected": pl.String, "got": pl.String,
}  # fmt: skip


def print_agreements(agreements: Sequence[Agreement], how: Format) -> None:
    """Print how many answers of each target are the ones expected, and the first that are not."""
    found = differences(agreements)
    if how is not Format.TABLE:
        write_answer(found, [record(each) for each in agreements], how)
        return
    agree = not found.height
    sentences(["Every answer is the model's." if agree else "NOT every answer is the model's: see the differences."])
    rows = [(each.target, each.n_asked, each.n_agree, len(each.differences), each.n_left_out) for each in agreements]
    show(pl.DataFrame(rows, schema=_CASES, orient="row"))
    if not agree:
        show(found, title="The first differences", rows=_SHOWN)


def differences(agreements: Sequence[Agreement]) -> pl.DataFrame:
    """List each field of each answer that is not the one expected."""
    rows = [
        (each.target, one.vector.id, f"{one.vector.at:%Y-%m-%dT%H:%M:%SZ}", name, _told(expected), _told(got))
        for each in agreements
        for one in each.differences
        for name, (expected, got) in one.fields.items()
    ]
    return pl.DataFrame(rows, schema=_DIFFERENCES, orient="row")


def record(agreement: Agreement) -> dict[str, object]:
    """Give an agreement as scripts read it."""
    return {
        "target": agreement.target,
        "asked": agreement.n_asked,
        "agree": agreement.n_agree,
        "not_asked": agreement.n_left_out,
        "differences": [
            {"id": one.vector.id, "at": f"{one.vector.at:%Y-%m-%dT%H:%M:%SZ}"}
            | {name: {"expected": expected, "got": got} for name, (expected, got) in one.fields.items()}
            for one in agreement.differences
        ],
    }


def _told(value: object) -> str:
    return "nothing" if value is None else str(value)
