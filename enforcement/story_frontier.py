"""Schedules that no other beats, in words and tables."""

from typing import Final

import numpy as np
import polars as pl

from enforcement.candidates import said as looked_at
from enforcement.frontier import OBJECTIVES
from enforcement.pieces import Figure, Piece, count, figures, said, share, table, together
from enforcement.searches import Searched

_SHOWN: Final = 20
_NOTE: Final = (
    "the rules of the base say what a risk is; policies with other rules are placed roughly, up to a sixth off (rollout"
    " follows each server); those far from all candidates are not in the picture"
)


def answer(found: Searched) -> Piece:
    """Say how many schedules no other beats, and whether the base is among them."""
    of = found.frontier
    base = of.placed.row(0, named=True)
    beaten = (
        "no candidate beats the base"
        if base["beaten_by"] is None
        else f"candidate {base['beaten_by']:,} has less of all three than the base"
    )
    piece = said(
        "{b_n} of {all} schedules are beaten by no other in risk left, mail delayed and mail lost; {base}, {b_name}.",
        b_n=f"{of.front.height:,}",
        all=f"{of.table.height:,}",
        base=beaten,
        b_name=found.base.name,
    )
    top = Piece(piece.html.replace("<p>", '<p class="answer">', 1), piece.text)
    return together([top, said("Looked at: {what}.", what=looked_at(found.candidates))])


def figures_of(found: Searched) -> Piece:
    """Give what the front spans: the least and most of each of the three, and the mail that it is of."""
    of = found.frontier
    spans = [
        Figure(
            what=words,
            value=share(float(of.front[name].to_numpy().min(initial=np.inf)), of.mail),
            of=f"at the least, {share(float(of.front[name].to_numpy().max(initial=0)), of.mail)} at the most",
        )
        for name, words in OBJECTIVES.items()
    ]
    return figures(
        [
            *spans,
            Figure(what="mail", value=count(of.mail), of=f"messages expected over {found.record['days']} days"),
            Figure(
                what="keep the bounds",
                value=f"{of.table.filter(pl.col('keeps_bounds')).height:,}",
                of=f"of {of.table.height:,} candidates",
            ),
        ]
    )


def front(found: Searched) -> Piece:
    """List schedules that no other beats, evenly from the least to the most mail lost."""
    of = found.frontier.front
    if not of.height:
        return said("No candidate keeps the bounds.")
    places = np.unique(np.linspace(0, of.height - 1, min(_SHOWN, of.height)).round().astype(np.int64))
    shown = _shares(found, of[places.tolist()]).select("number", *OBJECTIVES.values(), "stages", "pause_days")
    note = f"{shown.height} of {of.height:,}, evenly; days on a server's clock, t throttled and b blocked minutes"
    return table(shown, name="front", whole=of, rows=shown.height, note=note)


def placed(found: Searched) -> Piece:
    """Place the base and the shipped policies among the candidates."""
    of = found.frontier.placed
    shown = _shares(found, of).select(
        "name", *OBJECTIVES.values(), "keeps_bounds", beaten_by=pl.col("beaten_by").cast(pl.String).fill_null("none")
    )
    return table(
        shown,
        name="placed",
        whole=of,
        rows=shown.height,
        note="the rules of the base say what a risk is; far ones are not in the picture",
    )


def _shares(found: Searched, of: pl.DataFrame) -> pl.DataFrame:
    mail = found.frontier.mail
    return of.with_columns(
        pl.col(name).map_elements(lambda messages: share(messages, mail), return_dtype=pl.String).alias(words)
        for name, words in OBJECTIVES.items()
    )
