"""Each answer as people read it in a terminal, and as scripts do."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl

from enforcement.answers import compare_answer, decision_answer, import_answer, replay_answer, report_answer
from enforcement.check import Lint
from enforcement.comparison import Comparison
from enforcement.differences import differences
from enforcement.explain import Case
from enforcement.exporting import Exported
from enforcement.fleet import SILENT
from enforcement.forecasts import Forecast, ahead_answer
from enforcement.policy_words import what_differs
from enforcement.printing_forecast import print_differences
from enforcement.replay import Replay
from enforcement.report import RunResult
from enforcement.report_runs import Plan
from enforcement.standing import WORST_FIRST
from enforcement.store import Forgotten, ImportRecord
from enforcement.terminal import Format, answer, say, sentences, share, show, write_answer
from enforcement.workbench import Fleet

_ORDER: Final = (*WORST_FIRST, SILENT)
_RAIL: Final = ("measure", "per", "at_most", "state", "worst_unit", "worst_share", "n_judged", "n_units")
_SHOWN_DIFFERENCES: Final = ("at_once", "delayed", "lost", "accepted_vulnerable")


def imports(records: Sequence[ImportRecord], how: Format, *, rejected: pl.DataFrame | None = None) -> None:
    """Print what was imported: every row read is stored or rejected."""
    rows = [import_answer(record) for record in records]
    if how is not Format.TABLE:
        for record in records:
            for note in record.notes:
                say(f"{record.source}: {note}")
        write_answer(pl.DataFrame(rows), rows, how)
        return
    for record in records:
        done = "was already imported; nothing changed" if record.already_imported else "imported"
        answer(
            f"{record.source}: {done} as import {record.import_id}: {record.rows_read:,} rows read = "
            f"{record.rows_stored:,} stored + {record.rows_rejected:,} rejected"
        )
        sentences([f"  {note}" for note in record.notes])
    if rejected is not None and rejected.height:
        show(rejected, title="Why rows were rejected (they are kept in the view rejects)", rows=10)


def forgotten(what: Forgotten) -> None:
    """Print what was removed."""
    told = f"forgotten: {what.imports:,} imports, {what.traffic_rows:,} rows of traffic, {what.sightings:,} sightings"
    answer(f"{told}, {what.clock_starts:,} clock starts, {what.decisions:,} decisions")


def fleet(known: Fleet, how: Format) -> None:
    """Print the fleet, worst first."""
    if how is not Format.TABLE:
        write_answer(known.servers, known.servers.to_dicts(), how)
        return
    latest = known.standing_by_day.filter(pl.col("day") == pl.col("day").max()).sort("servers", descending=True)
    in_words = ", ".join(f"{row['servers']:,} {row['standing']}" for row in latest.iter_rows(named=True))
    told = (
        f"{known.servers['server'].n_unique():,} servers seen until {known.as_of}, of which "
        f"{latest['servers'].sum():,} handed mail over. By the rules of {known.policy.name}, each of these by the "
        f"worst build of its last day with mail: {in_words}."
    )
    sentences([told])
    most_first = known.servers.with_columns(pl.col("standing").cast(pl.Enum([str(name) for name in _ORDER]))).sort(
        "standing", "messages", "days_behind", "server", descending=[False, True, True, False], nulls_last=True
    )
    columns = ("server", "build", "standing", "rule", "days_behind", "last_seen_on", "messages")
    show(most_first.select(columns), title="A row each server, build, hop and route; `--format csv` says why")


def checked(found: Mapping[str, Sequence[Lint]], how: Format) -> None:
    """Print what checking policies has found."""
    rows = [
        {"policy": name, "key": lint.key, "severity": str(lint.severity), "message": lint.message}
        for name, lints in found.items()
        for lint in lints
    ]
    if how is not Format.TABLE:
        schema = {"policy": pl.String, "key": pl.String, "severity": pl.String, "message": pl.String}
        write_answer(pl.DataFrame(rows, schema=schema), rows, how)
        return
    for name, lints in found.items():
        answer(f"{name}: valid, {'but look at this:' if lints else 'nothing to remark'}")
        sentences([f"  {lint.severity}: {lint.key}: {lint.message}" for lint in lints])


def replays(results: Sequence[Replay], how: Format) -> None:
    """Print policies side by side, then each policy's stages and guardrails."""
    for result in results:
        for told in result.unmatched:
            say(f"{result.policy.name}: {told}")
    if how is not Format.TABLE:
        rows = [_figures(result) for result in results]
        write_answer(pl.DataFrame(rows), [replay_answer(result) for result in results], how)
        return
    sentences([_in_a_sentence(result) for result in results])
    show(_side_by_side(results), title="Side by side, in messages where nothing else is said")
    for result in results:
        stages = result.by_stage.drop("retries")
        show(stages, title=f"{result.policy.name}: subject messages by stage")
        if result.guardrails.height:
            show(_with_shares(result.guardrails.select(_RAIL)), title=f"{result.policy.name}: guardrails")
        if result.course.granted.ungranted.height:
            show(result.course.granted.ungranted, title=f"{result.policy.name}: pause days not granted")
    reasons = results[0].untouched
    show(reasons, title=f"Messages read that {results[0].policy.name} does not touch, and why")
    show(results[0].evidence, title="Messages read by how their build is known")


def _in_a_sentence(result: Replay) -> str:
    totals, (first, last) = result.totals, result.period
    subject = f"{totals['subject']:,.0f} subject messages ({share(totals['subject'], totals['read'])} of all read)"
    return (
        f"{result.policy.name}, {first} to {last}: of {subject}, {share(totals['delayed'], totals['subject'])} would "
        f"have come late and {share(totals['lost'], totals['subject'])} would have been lost; "
        f"{totals['accepted_vulnerable']:,.0f} messages of vulnerable builds would still have been delivered."
    )


def _side_by_side(results: Sequence[Replay]) -> pl.DataFrame:
    """Turn the comparison: a row each figure, a column each policy."""
    figures = pl.DataFrame([_figures(result) for result in results])
    names = pl.Series("", [name.replace("_", " ") for name in figures.columns if name != "policy"])
    columns = {
        f"{number}. {result.policy.name}": pl.Series(row[1:], dtype=pl.Float64)
        for number, (result, row) in enumerate(zip(results, figures.rows(), strict=True), start=1)
    }
    return pl.DataFrame([names.alias(" ")]).with_columns(**columns)


def _figures(result: Replay) -> dict[str, Any]:
    """One row of the comparison."""
    totals = result.totals
    return {
        "policy": result.policy.name,
        **{name: totals[name] for name in ("read", "in_scope", "subject", "at_once", "delayed", "rejected", "expired")},
        "servers hit": result.servers.filter(pl.col("subject") > 0).height,
        "tenants hit": result.tenants.filter(pl.col("subject") > 0).height,
        "risk left (vulnerable builds delivered)": totals["accepted_vulnerable"],
        "delay of the delayed, p95 (minutes)": result.delay_minutes["p95"],
    }


def _in_words(name: str) -> pl.Expr:
    return pl.col(name).str.replace_all("_", " ")


def _with_shares(table: pl.DataFrame) -> pl.DataFrame:
    percent = pl.format("{} %", (pl.col("at_most", "worst_share") * 100).round(2))
    return table.with_columns(percent.name.keep())


def compared(found: Comparison, ahead: Forecast | None, how: Format) -> None:
    """Print what each proposal changes against the baseline, in all and for whom; then what may happen, if asked."""
    changed = differences(found)
    if how is not Format.TABLE:
        told = compare_answer(found)
        if ahead:
            told = [each | {"ahead": ahead_answer(ahead, each["policy"], each["baseline"])} for each in told]
        write_answer(changed, told, how)
        return
    sentences([_in_a_sentence(each.replay) for each in found.all])
    words = what_differs({each.name: each.replay.policy for each in found.all})
    if words.height:
        show(words, title="What the policies say differently", rows=words.height)
    base = found.baseline_name
    sentences([f"Which builds are vulnerable goes by the rules of {found.first.replay.risk_by} here."])
    for proposal in found.proposals:
        own = changed.filter(policy=proposal.name)
        columns = {"value": proposal.name, "baseline": base} if proposal.name != base else {}
        in_all = own.filter(part="all").select("measure", "value", "baseline", "difference").rename(columns)
        show(
            in_all.with_columns(_in_words("measure")),
            title=f"{proposal.name} against {base}: messages, and whom they are of",
        )
        for part, title in (("product", "products"), ("decile", "tenths of the tenants, 1 with the least mail")):
            shown = own.filter((pl.col("part") == part) & pl.col("measure").is_in(_SHOWN_DIFFERENCES))
            wide = shown.pivot(on="measure", index="of", values="difference", maintain_order=True)
            show(wide.rename({"of": part}), title=f"More (or less) than under {base}, by {title}")
        if proposal.replay.guardrails.height:
            show(_with_shares(proposal.replay.guardrails.select(_RAIL)), title=f"{proposal.name}: guardrails")
    if ahead:
        print_differences(ahead, ahead.rollout.policies[0])


def explained(case: Case, how: Format) -> None:
    """Print why a message is accepted, deferred or rejected."""
    record = decision_answer(case.decision)
    if how is Format.TABLE:
        sentences(case.sentences())
    else:
        write_answer(pl.DataFrame([record]), record, how)


def exported(made: Exported, how: Format) -> None:
    """Print what was exported and where it holds."""
    for told in made.replay.unmatched:
        say(told)
    if how is not Format.TABLE:
        for told in made.reach:
            say(told)
        write_answer(made.calendar, made.manifest, how)
        return
    manifest = made.manifest
    answer(
        f"{manifest['policy']} exported to {made.folder}: serial {manifest['serial']}, as of {manifest['as_of']}, "
        f"valid from {manifest['valid_from']} to {manifest['not_after']}"
    )
    answer(f"{made.calendar['server'].n_unique():,} servers under enforcement in the calendar")
    for told in (*made.reach, *made.relies_on):
        answer(told)
    if manifest["override"]:
        broken = [rail for rail in manifest["guardrails"] if rail["state"] != "pass"]
        what = f"{len(broken)} guardrails overridden" if broken else "no guardrail is broken; recorded all the same"
        answer(f"{what}: {manifest['override']}")
    sizes = pl.DataFrame({"file": list(manifest["files"]), "bytes": [f["bytes"] for f in manifest["files"].values()]})
    # A folder in a target's own folder is one line: its files are one table in many parts.
    deep = pl.col("file").str.count_matches("/") > 1
    folder = pl.col("file").str.replace("[^/]+$", "…")
    show(
        sizes.group_by(file=pl.when(deep).then(folder).otherwise("file"), maintain_order=True).agg(
            pl.col("bytes").sum()
        )
    )


def planned(runs: Sequence[tuple[Plan, bool]], how: Format) -> None:
    """Print what a report would run."""
    rows = [
        {"report": plan.name, "run": plan.run, "state": "already run" if is_done else "would run"}
        for plan, is_done in runs
    ]
    if how is Format.TABLE:
        show(pl.DataFrame(rows))
    else:
        write_answer(pl.DataFrame(rows), rows, how)


def run_ended(result: RunResult) -> None:
    """Say how a run ended as soon as it has."""
    if not result.already_run:
        say(f"{result.name}: {result.state}{f': {result.error}' if result.error else ''}")


def reported(results: Sequence[RunResult], out: Path, how: Format) -> None:
    """Print the runs of a report and where their pages are."""
    rows = [report_answer(result) for result in results]
    if how is not Format.TABLE:
        write_answer(pl.DataFrame(rows), rows if len(rows) > 1 else rows[0], how)
        return
    if all(result.already_run for result in results):
        answer("nothing has changed; these runs were there already:")
    for result in results:
        answer(f"{result.name}: {result.state}, {result.page}")
    answer(f"all runs: {out / 'index.html'}")
