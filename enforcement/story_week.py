"""What a week says in words, figures and tables: what changed, who comes next to which stage, what was forecast."""

from datetime import timedelta
from typing import Final

import polars as pl

from enforcement.fleet import SILENT
from enforcement.pieces import Figure, Piece, count, difference, figures, in_words, plural, said, share, table, together
from enforcement.policy import Phase
from enforcement.standing import WORST_FIRST, Standing
from enforcement.week import DAYS, about_to_be_vulnerable, moves, newly_silent
from enforcement.weekly import Weekly

_ORDER: Final = (*(str(name) for name in WORST_FIRST), SILENT)
_UNTIL_FULL: Final = str(Phase.BLOCK_ALL)


def answer(of: Weekly) -> Piece:
    """Say in a few sentences how the week went and what the next one brings."""
    seen = of.stands.filter(pl.col("standing") != SILENT)
    vulnerable = _n(of.stands, Standing.VULNERABLE)
    next_week = _next_week(of)
    n_full = next_week.filter(next_phase=_UNTIL_FULL).height
    sentences = [
        said(
            "On {day}, {b_n} of {all} servers in sight are vulnerable by the rules of {policy}{change}.",
            day=of.as_of,
            b_n=f"{vulnerable:,}",
            all=f"{seen.height:,}",
            policy=of.policy.name,
            change=_change(of),
        ),
        said(
            "Within {days} days {b_enter} enter another stage, {full} of them the full block.",
            days=DAYS,
            b_enter=plural(next_week.height, "server"),
            full=in_words(n_full) if n_full else "none",
        ),
    ]
    quiet = (of.as_of - of.last_mail_on).days
    if quiet:
        # Without any mail of the week, that comes first: the rest is of an earlier fleet.
        sentences.insert(
            0 if quiet >= DAYS else len(sentences),
            said(
                "The last mail is of {day}: {b_quiet} before {as_of} there is none. Was it imported?",
                day=of.last_mail_on,
                b_quiet=plural(quiet, "day"),
                as_of=of.as_of,
            ),
        )
    inner = " ".join(sentence.html.removeprefix("<p>").removesuffix("</p>") for sentence in sentences)
    return Piece(f'<p class="answer">{inner}</p>', " ".join(sentence.text for sentence in sentences))


def _change(of: Weekly) -> str:
    if of.stands_before is None:
        return ""
    now, then = _n(of.stands, Standing.VULNERABLE), _n(of.stands_before, Standing.VULNERABLE)
    if now == then:
        return f", as many as on {of.before}"
    return f", {abs(now - then):,} {'more' if now > then else 'fewer'} than on {of.before}"


def _n(stands: pl.DataFrame, standing: str) -> int:
    return stands.filter(pl.col("standing") == str(standing)).height


def _next_week(of: Weekly) -> pl.DataFrame:
    return of.coming.filter(pl.col("next_on") <= of.as_of + timedelta(days=DAYS))


def five_figures(of: Weekly) -> Piece:
    """Give the week's five figures, each with its base and its difference from the week before."""
    seen = of.stands.filter(pl.col("standing") != SILENT)
    vulnerable = _n(of.stands, Standing.VULNERABLE)
    before = None if of.stands_before is None else _n(of.stands_before, Standing.VULNERABLE)
    next_week = _next_week(of)
    week = of.replay.by_day.filter(pl.col("day") > of.before)
    lost, late, read = (float(week[name].sum()) for name in ("lost", "delayed", "read"))
    fell = newly_silent(of.fleet.servers, of.policy, of.period)
    still = of.coming.filter(~pl.col("running"))
    return figures(
        [
            Figure(
                what="vulnerable servers",
                value=f"{vulnerable:,}",
                of=f"{share(vulnerable, seen.height)} of {seen.height:,} servers in sight",
                difference="" if before is None else difference(vulnerable, before, than=str(of.before)),
            ),
            Figure(
                what="under enforcement",
                value=f"{of.coming['server'].n_unique():,}",
                of=f"servers of {of.coming['tenant'].n_unique():,} tenants; "
                f"{still['server'].n_unique():,} paused or exempt that day",
            ),
            Figure(
                what=f"enter a stage in {DAYS} days",
                value=f"{next_week['server'].n_unique():,}",
                of=f"servers of {next_week['tenant'].n_unique():,} tenants",
            ),
            Figure(
                what="lost, by the replay",
                value=share(lost, read),
                of=f"{count(lost)} of {count(read)} messages of the week; {count(late)} delayed ({share(late, read)})",
            ),
            Figure(
                what="fell silent",
                value=f"{fell.height:,}",
                of=f"servers without mail for {of.policy.silent_after_days} days since this week; "
                f"{_n(of.stands, SILENT):,} in all",
            ),
        ]
    )


def standing(of: Weekly) -> Piece:
    """Give how the servers stand, how they stood, and who moved from where to where."""
    known = of.stands_before
    rows = [
        {"standing": name, "servers": _n(of.stands, name), "a week before": None if known is None else _n(known, name)}
        for name in _ORDER
        if _n(of.stands, name) or (known is not None and _n(known, name))
    ]
    shown = pl.DataFrame(rows, schema={"standing": pl.String, "servers": pl.Int64, "a week before": pl.Int64})
    pieces = [table(shown.with_columns(change=pl.col("servers") - pl.col("a week before")), name="standing")]
    if known is None:
        return together([*pieces, said("There is no week before: {why}.", why=of.why_no_forecast)])
    moved = moves(known, of.stands)
    if moved.is_empty():
        return together([*pieces, said("No server has changed its standing.")])
    return together([*pieces, table(moved, name="moves", rows=12, note="servers that changed their standing")])


def next_stages(of: Weekly) -> Piece:
    """Say how many servers enter which stage next, and when."""
    columns = ["next_stage", "next_phase", "next_throttle", "next_block"]
    counted = (
        of.coming.filter(pl.col("next_on").is_not_null())
        .group_by(columns)
        .agg(
            pl.col("server").n_unique().alias("servers"),
            pl.col("tenant").n_unique().alias("tenants"),
            within_7_days=(pl.col("days_left") <= DAYS).sum(),
            first_on=pl.col("next_on").min(),
        )
        .sort("next_stage")
        .rename({"next_throttle": "min throttled", "next_block": "min blocked", "next_phase": "phase"})
        .rename({"next_stage": "stage", "within_7_days": f"within {DAYS} days"})
    )
    last = of.coming.filter(pl.col("next_on").is_null())
    end = said(
        "Servers in the last stage, or paused with no end known, which enter no other: {n}.", n=f"{last.height:,}"
    )
    soon = about_to_be_vulnerable(of.fleet.servers, of.policy, of.period)
    first = said("Servers that become vulnerable within {days} days: {n}.", n=f"{soon.height:,}", days=DAYS)
    if counted.is_empty():
        return together([said("No server under enforcement has another stage before it."), end, first])
    return together([table(counted, name="next_stages", rows=20), end, first])


def days_left(of: Weekly) -> Piece:
    """List the servers under enforcement, the one first whose next stage is nearest."""
    shown = of.coming.select("server", "stage", "phase", "next_phase", "next_on", "days_left")
    return table(
        shown.rename({"phase": "now", "next_phase": "next"}),
        name="days_left",
        whole=of.coming.drop("server_id"),
        rows=15,
        note="soonest first; a clock that stands still (paused, exempt) is counted on from the day it resumes",
    )


def forecast(of: Weekly) -> Piece:
    """Hold the forecast of a week ago against what came, and say which expectation is meant."""
    if of.forecast is None:
        return said("No forecast to hold against the week: {why}.", why=of.why_no_forecast)
    expected, came = of.mail
    outside = of.forecast.filter(~pl.col("inside"))
    verdict = (
        "Everything came inside its band."
        if outside.is_empty()
        else f"Outside of their bands came {in_words(outside.height)} of {in_words(of.forecast.height)}."
    )
    shown = of.forecast.select(
        "measure",
        **{"expected (middle)": pl.col("middle").round(0).cast(pl.Int64)},
        band=pl.format("{} to {}", _whole("low"), _whole("high")),
        came=pl.col("came").round(0).cast(pl.Int64),
        inside=pl.when("inside").then(pl.lit("✓ inside")).otherwise(pl.lit("✗ outside")),
    )
    mail = said(
        "Mail of all servers: {came} messages came; the same weekdays of the weeks before had {expected}, of servers "
        "in sight then.",
        came=count(came),
        expected=count(expected),
    )
    note = "the band holds nine of ten draws of how servers may act; how much mail differs between weeks is not in it"
    whole = table(shown, name="forecast", whole=of.forecast, rows=shown.height, note=note)
    return together([said("{verdict}", verdict=verdict), whole, mail])


def _whole(column: str) -> pl.Expr:
    return pl.col(column).round(0).cast(pl.Int64).map_elements(lambda number: f"{number:,}", return_dtype=pl.String)


def silent(of: Weekly) -> Piece:
    """List the servers that fell silent in the week."""
    fell = newly_silent(of.fleet.servers, of.policy, of.period)
    if fell.is_empty():
        return said("No server fell silent in the week; {n} are silent in all.", n=f"{_n(of.stands, SILENT):,}")
    return table(fell, name="newly_silent", rows=10, note="perhaps retired; vulnerable from: by the builds seen last")


def drift(of: Weekly) -> Piece:
    """Say whether production decided as the policy says, as far as its decision logs were imported."""
    if of.drift is None:
        return said("No decision log was imported for the week, so what production did is not known here.")
    pieces = [
        said("{verdict}", verdict=of.drift.sentence()),
        table(of.decisions, name="decisions", rows=24, note="decisions that production logged in the week"),
    ]
    if of.drift.disagreements:
        pieces.append(table(of.drift.disagreeing(), name="disagreements", note="decisions that are not the policy's"))
    if of.drift.gaps.height:
        pieces.append(table(of.drift.gaps, name="gaps", rows=10, note="servers whose mail is not as it was"))
    return together(pieces)
