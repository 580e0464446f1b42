"""What a page rests on: the data, how they were counted, and what is assumed where nothing is known."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from enforcement.assumptions import Assumptions
from enforcement.comparison import Comparison
from enforcement.history import Period
from enforcement.pieces import Piece, count, listed, pairs, said, share, table, together
from enforcement.policy import Policy, Window
from enforcement.replay import Replay


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What a store was filled from: imports (a row a source), rejects (reason, rows); are minutes made up."""

    imports: pl.DataFrame
    rejects: pl.DataFrame
    are_times_rounded: bool
    fingerprint: str


def assumed(assumptions: Assumptions, compared: Comparison) -> Piece:
    """List what is supposed: about senders from the assumptions file, about the service, about people."""
    senders = [
        said(
            "{mark}{share} of the senders ({b_name}) try again after {minutes} min and give up after {hours} h. "
            "Source: {source}.",
            mark="Guess: " if sender.is_guess else "",
            share=f"{100 * sender.share:g}\N{NO-BREAK SPACE}%",
            b_name=sender.name,
            minutes=", ".join(str(minutes) for minutes in sender.retry_minutes),
            hours=f"{sender.gives_up_after_hours:g}",
            source=sender.source.strip().rstrip("."),
        )
        for sender in assumptions.senders
    ]
    return listed([*senders, *_about_the_service(compared), *_about_people(compared)])


def _about_the_service(compared: Comparison) -> list[Piece]:
    windows = {str(each.replay.policy.window): each.replay.policy.window for each in compared.all}
    where = {
        Window.TOP: "at the full hour",
        Window.SPREAD: "at a minute of each server's own",
    }
    begins = " or ".join(where[window] for window in windows.values())
    return [
        said(
            "Guess: the blocked minutes of an hour begin {where}, the throttled ones follow. "
            "Where Microsoft puts them is not known.",
            where=begins,
        ),
        said("A message that is tried again meets the stage of its first try."),
    ]


def _about_people(compared: Comparison) -> list[Piece]:
    pauses = sum(each.replay.course.granted.pauses.height for each in compared.all)
    ungranted = sum(each.replay.course.granted.ungranted["days"].sum() for each in compared.all)
    told = [
        said(
            "Nobody reacts: this is what the mail of the past would have met. Who would have patched because of the "
            "policy is not in it."
        )
    ]
    if pauses or ungranted:
        told.append(
            said("{n} pauses were taken; {not_granted} pause days were not granted.", n=pauses, not_granted=ungranted)
        )
    return told


def data_box(sources: Sources, replay: Replay) -> Piece:
    """Say what a replay was counted from: sources, period, and what became of every row."""
    totals = replay.totals
    read = totals["read"]
    why = {
        f"not subject: {reason}": f"{count(messages)} ({share(messages, read)})"
        for reason, messages in replay.untouched.iter_rows()
    }
    how = {
        f"build {evidence}": f"{count(messages)} ({share(messages, read)})"
        for evidence, messages in replay.evidence.iter_rows()
        if messages
    }
    shown = {
        **_imported(sources),
        "period": f"{replay.period.from_on} to {replay.period.to_on} (UTC days)",
        "messages read": count(read),
        "in scope": f"{count(totals['in_scope'])} ({share(totals['in_scope'], read)}): a known build of an on-premises "
        "server, by a route of the policy",
        f"subject to {replay.policy.name}": f"{count(totals['subject'])} ({share(totals['subject'], read)}) in "
        f"{replay.n_spells:,} spells",
        **why,
        **how,
    }
    return together([pairs(shown), *_tables(sources)], kind="data")


def fleet_box(sources: Sources, period: Period, policy: Policy) -> Piece:
    """Say what a list of servers was counted from."""
    shown = {**_imported(sources), "known until": f"{period.to_on}", "judged by the rules of": policy.name}
    return together([pairs(shown), *_tables(sources)], kind="data")


def source_box(sources: Sources) -> Piece:
    """Say what a store was filled from."""
    return together([pairs(_imported(sources)), *_tables(sources)], kind="data")


def _imported(sources: Sources) -> Mapping[str, object]:
    imports = sources.imports
    read, kept, rejected = (int(imports[f"rows_{what}"].sum()) for what in ("read", "stored", "rejected"))
    shown: dict[str, object] = {"rows imported": f"{count(read)} = {count(kept)} stored + {count(rejected)} rejected"}
    if sources.are_times_rounded:
        shown["minutes"] = "made up for at least one source that has only hours: delays and losses are expected ones"
    shown["traffic"] = f"SHA-256 {sources.fingerprint[:16]}… (whole in the record of this run)"
    return shown


def _tables(sources: Sources) -> list[Piece]:
    columns = ["import_id", "source", "rows_read", "rows_stored", "rows_rejected", "imported_at"]
    pieces = [table(sources.imports.select(columns), name="imports", whole=sources.imports)]
    if sources.rejects.height:
        pieces.append(table(sources.rejects, name="rejects", note="why rows were rejected"))
    return pieces
