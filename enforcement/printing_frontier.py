"""Frontiers and sensitivities as people read them in a terminal: the answer first, then what is supposed."""

from typing import Any, Final

import numpy as np
import polars as pl

from enforcement.assumptions import Sourced
from enforcement.candidates import said
from enforcement.frontier import OBJECTIVES
from enforcement.rollout_bands import FEWEST_SERVERS, FEWEST_TENANTS
from enforcement.searches import Searched, Swings
from enforcement.sensitivity import IGNORED
from enforcement.terminal import Format, cell, sentences, show, write_answer

_ROWS: Final = 20
_UNITS: Final = {
    "vulnerable": "vulnerable servers on the last day",
    "risk": "messages of vulnerable servers delivered",
    "delayed": "messages delayed",
    "lost": "messages lost",
}


def print_search(found: Searched, how: Format) -> None:
    """Print the candidates that no other beats, and the policies placed among them."""
    of = found.frontier
    if how is not Format.TABLE:
        write_answer(of.table, search_answer(found), how)
        return
    front = of.front
    keep = of.table.filter(pl.col("keeps_bounds")).height
    opening = (
        f"{front.height:,} of {of.table.height:,} candidates are beaten by no other in risk left, mail delayed and"
        f" mail lost; {keep:,} keep the bounds. Expected over {found.record['days']} days from"
        f" {found.record['as_of']}, people reacting as supposed."
    )
    thin = _thin(found.fleet.n_vulnerable, found.fleet.n_vulnerable_tenants)
    sentences([opening, f"Looked at: {said(found.candidates)}.", *thin])
    places = np.unique(np.linspace(0, front.height - 1, min(_ROWS, front.height)).round().astype(np.int64))
    cut = "" if len(places) == front.height else f"; {len(places)} of {front.height:,}, evenly (--out DIR writes all)"
    title = f"Beaten by no other, in % of all {of.mail:,.0f} messages; stages: days, t throttled, b blocked min{cut}"
    show(
        _shares(front[places.tolist()]).select("number", *OBJECTIVES.values(), "stages", *_varied(of.table)),
        title=title,
    )
    placed = of.placed.with_columns(
        beaten_by=pl.when(pl.col("beaten_by").is_null()).then(pl.lit("none")).otherwise(pl.format("{}", "beaten_by"))
    )
    show(
        _shares(placed).select("name", *OBJECTIVES.values(), "keeps_bounds", "beaten_by"),
        title="The base and the shipped policies among them; the rules of the base say what a risk is. Policies with"
        " other rules are placed roughly, up to a sixth off: `rollout` follows each server",
    )
    _supposed(found.assumptions.guesses(), len(found.assumptions.sourced()))


def search_answer(found: Searched) -> dict[str, Any]:
    """Give a frontier as scripts read it: the record, the front, and the policies placed."""
    return found.record | {
        "front": found.frontier.front.to_dicts(),
        "placed": found.frontier.placed.to_dicts(),
        "guesses": [each._asdict() for each in found.assumptions.guesses()],
    }


def print_swings(found: Swings, how: Format) -> None:
    """Print which assumption moves the answer most."""
    table = found.table
    if how is not Format.TABLE:
        write_answer(table, table.to_dicts(), how)
        return
    unit = _UNITS[found.measure]
    if not table.height:
        sentences(["Every figure of the assumptions is exact: none has a range to be moved over."])
        return
    top = table.row(0, named=True)
    opening = (
        f"{found.policy.name}: {cell(round(top['answer'], 1))} {unit}, expected over {found.fleet.n_days} days from"
        f" {found.as_of}. {top['figure']} moves that most: {cell(round(top['at_low'], 1))} at {top['low']:g},"
        f" {cell(round(top['at_high'], 1))} at {top['high']:g}{' (a guess)' if top['is_guess'] else ''}."
    )
    sentences([opening, *_thin(found.fleet.n_vulnerable, found.fleet.n_vulnerable_tenants)])
    moving = table.filter(pl.col("swing") > 1e-6 * max(1.0, abs(top["answer"])))
    written = moving.with_columns(
        pl.col("low", "value", "high").map_elements(lambda x: f"{x:g}", return_dtype=pl.String)
    )
    show(
        written.select("figure", "low", "value", "high", "at_low", "at_high", "swing", "is_guess"),
        title=f"Each figure over its 90 % range, others at their value, factors in order: {unit}",
    )
    if with_others := moving.filter(pl.col("moves_too") != "").select("figure", "moves_too").rows():
        told = "; ".join(f"{figure} moves {others}" for figure, others in with_others)
        sentences([f"Factors do not fall with harder measures, so some are not moved alone: {told}."])
    if still := table.height - moving.height:
        sentences([f"{still} figures with a range do not move it: nothing here meets them."])
    sentences([f"Not in this answer, as only bands have it: {', '.join(sorted(IGNORED))}."])
    _supposed(found.assumptions.guesses(), len(found.assumptions.sourced()))


def _shares(table: pl.DataFrame) -> pl.DataFrame:
    percent = [
        pl.format("{} %", (100 * pl.col(f"{name}_share")).round(2)).alias(words) for name, words in OBJECTIVES.items()
    ]
    return table.with_columns(percent)


def _varied(table: pl.DataFrame) -> list[str]:
    """Name the columns beside the stages that differ between candidates."""
    return [name for name in ("starts", "pause_days", "notice_days") if table[name].n_unique() > 1]


def _thin(servers: int, tenants: int) -> list[str]:
    if servers >= FEWEST_SERVERS and tenants >= FEWEST_TENANTS:
        return []
    return [f"Thin: {servers:,} vulnerable servers of {tenants:,} tenants; their chance is not that of many."]


def _supposed(guesses: list[Sourced], n: int) -> None:
    factors = any(each.key.startswith("factors.") for each in guesses)
    told = (
        f"{len(guesses)} of {n} numbers of the assumptions are guesses"
        f"{', among them by how much faster people act under what a policy does' if factors else ''}. Every one"
        " is at its value here, and servers that come back are followed on average; `rollout` follows each, and gives"
        " bands."
    )
    sentences([told])
