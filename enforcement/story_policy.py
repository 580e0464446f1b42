"""What a policy says in words: whom it takes in, what it does to them, what may be amiss, what goes to production."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any, Final

import polars as pl

from enforcement.check import Lint
from enforcement.history import Period
from enforcement.picture_tables import stage_name
from enforcement.pieces import Figure, Piece, figures, listed, pairs, plural, said, share, table, together
from enforcement.policy import Phase, Policy
from enforcement.policy_words import SINCE, what_differs
from enforcement.replay import Replay
from enforcement.standing import Standing
from enforcement.story_fleet import present, worst

_SOON_DAYS: Final = 14


def answer(policy: Policy, servers: pl.DataFrame, period: Period) -> Piece:
    """Say in two sentences whom a policy would hold today, and when it refuses everything."""
    shown = worst(present(servers, policy, period))
    held = _held(servers, policy, period)
    piece = said(
        "On {day} the rules of {b_name} call {b_n} of {all} servers vulnerable ({share}), and its cohorts take in "
        "{held}. {end}",
        day=period.to_on,
        b_name=policy.name,
        b_n=f"{shown.filter(standing=Standing.VULNERABLE).height:,}",
        all=f"{shown.height:,}",
        share=share(shown.filter(standing=Standing.VULNERABLE).height, shown.height),
        held=f"{held['server'].n_unique():,} of them",
        end=_end(policy),
    )
    return Piece(piece.html.replace("<p>", '<p class="answer">', 1), piece.text)


def _end(policy: Policy) -> str:
    firsts = dict(reversed(list(zip(policy.phases, policy.stage_starts, strict=True))))
    lossy = [start for phase, start in firsts.items() if phase not in (Phase.REPORT, Phase.THROTTLE)]
    if not lossy:
        return "It never refuses mail."
    if Phase.BLOCK_ALL not in firsts:
        return f"Mail is lost from day {min(lossy)} on, but never all of it."
    return f"Mail is lost from day {min(lossy)} on, all of it from day {firsts[Phase.BLOCK_ALL]} on."


def _held(servers: pl.DataFrame, policy: Policy, period: Period) -> pl.DataFrame:
    """Keep the vulnerable servers that a cohort takes in, with the cohort's name."""
    shown = worst(present(servers, policy, period)).filter(standing=Standing.VULNERABLE)
    cohorts = [policy.cohort_for(product, tenant) for product, tenant in shown.select("product", "tenant").iter_rows()]
    named = [cohort.name if cohort else None for cohort in cohorts]
    started = [bool(cohort and cohort.starts_on <= period.to_on) for cohort in cohorts]
    return shown.with_columns(
        cohort=pl.Series(named, dtype=pl.String), has_started=pl.Series(started, dtype=pl.Boolean)
    ).filter(pl.col("cohort").is_not_null())


def about(policy: Policy) -> Piece:
    """Say what a policy is, who made it, and where its numbers come from."""
    shown = {
        "name": policy.name,
        "title": policy.title,
        "author": policy.author,
        "reference": policy.reference,
        "baseline": policy.baseline,
        "routes": ", ".join(policy.routes),
        "updates only for buyers of extended support": "count" if policy.count_private_updates else "do not count",
        "window": str(policy.window),
        "a spell ends after": f"{policy.clear_after_days} days without a subject message, on a clean day",
        "silent after": f"{policy.silent_after_days} days",
        "notice": _notice(policy),
        "pauses": f"{policy.pause.days_per_year} days per tenant and year" if policy.pause else "none granted",
        "guardrails": plural(len(policy.guardrails), "bound"),
    }
    return pairs({name: value for name, value in shown.items() if value})


def _notice(policy: Policy) -> str:
    if policy.notice is None:
        return "none asked for"
    notice = policy.notice
    stages = f", {notice.stage_days_before} days before each stage" if notice.stage_days_before else ""
    return (
        f"to all {notice.general_days_before} days and to tenants concerned {notice.targeted_days_before} days before "
        f"a cohort starts{stages}; announced at {notice.announcement_url}"
    )


def rules(policy: Policy, servers: pl.DataFrame, period: Period) -> Piece:
    """Put each rule in words, with the servers that it catches first."""
    shown = worst(present(servers, policy, period)).filter(standing=Standing.VULNERABLE)
    caught = dict(shown.group_by("rule").agg(pl.len()).iter_rows())
    sentences = [
        said(
            "{b_name}: a build is vulnerable {since}{when}. It catches {caught} now.",
            b_name=rule.name,
            since=f"{plural(rule.after_days, 'day')} after {SINCE[rule.since]}"
            if rule.after_days
            else f"as soon as {SINCE[rule.since]}",
            when=f", if {rule.when}" if rule.when else "",
            caught=plural(caught.get(rule.name, 0), "server"),
        )
        for rule in policy.rules
    ]
    minimums = [
        said(
            "Minimum for {product}{line}: {b_build} from {day} on.",
            product=minimum.product,
            line=f" {minimum.line}" if minimum.line else "",
            b_build=str(minimum.build),
            day=minimum.from_on,
        )
        for minimum in policy.minimum_builds
    ]
    return listed([*sentences, *minimums])


def differences(policies: Mapping[str, Policy]) -> Piece:
    """Say in words what the policies say differently."""
    rows = what_differs(policies)
    if not rows.height:
        return said("They say the same." if len(policies) > 1 else "There is no other policy to hold this one against.")
    return table(rows, name="what_differs", rows=rows.height, note="days on a server's clock")


def stages(policy: Policy) -> Piece:
    """Give the stages as a table."""
    until = [*policy.stage_starts[1:], None]
    rows = [
        {
            "stage": index + 1,
            "phase": str(policy.phases[index]),
            "from_day": start,
            "to_day": f"{end - 1}" if end is not None else "no end",
            "min_throttled": stage.throttle,
            "min_blocked": stage.block,
        }
        for index, (stage, start, end) in enumerate(zip(policy.stages, policy.stage_starts, until, strict=True))
    ]
    return table(
        pl.DataFrame(rows), name="stages", rows=len(rows), note="days on a server's clock; minutes of each hour"
    )


def cohorts(policy: Policy, servers: pl.DataFrame, period: Period) -> Piece:
    """Give the cohorts with the vulnerable servers that each would take in now."""
    held = dict(_held(servers, policy, period).group_by("cohort").agg(pl.len()).iter_rows())
    rows = [
        {
            "cohort": cohort.name,
            "starts_on": cohort.starts_on,
            "products": ", ".join(cohort.products) if cohort.products else "all",
            "tenants": _tenants(cohort.tenants, cohort.share_of_tenants),
            "vulnerable_servers_now": held.get(cohort.name, 0),
        }
        for cohort in policy.cohorts
    ]
    note = "the first that matches takes a server in; no match: reported, never enforced"
    return table(pl.DataFrame(rows), name="cohorts", rows=20, note=note)


def _tenants(names: Sequence[str] | None, part: float | None) -> str:
    who = "all" if names is None else plural(len(names), "named tenant")
    return who if part is None else f"{who}, of these {100 * part:g}\N{NO-BREAK SPACE}%"


def remarks(found: Sequence[Lint]) -> Piece:
    """List what is allowed in a policy but rarely meant."""
    if not found:
        return said("Nothing to remark.")
    return listed([said("{key}: {b_message}.", key=lint.key, b_message=lint.message) for lint in found])


def sign_off(
    manifest: Mapping[str, Any], calendar: pl.DataFrame, policy: Policy, folder: str, reach: Sequence[str]
) -> Piece:
    """Say what was exported, for how many servers, how long it holds, and what mail servers leave out."""
    piece = said(
        "{b_name} is exported to {folder} for {b_servers} of {tenants}. It holds from {first} to {last}; whoever "
        "carries it out must accept everything afterwards, until a newer export comes.",
        b_name=policy.name,
        folder=folder,
        b_servers=plural(calendar["server"].n_unique(), "server"),
        tenants=plural(calendar["tenant"].n_unique(), "tenant"),
        first=manifest["valid_from"],
        last=manifest["not_after"],
    )
    overridden = (
        [said("Guardrails were overridden: {b_why}.", b_why=manifest["override"])] if manifest["override"] else []
    )
    top = Piece(piece.html.replace("<p>", '<p class="answer">', 1), piece.text)
    return together([top, *(said("{told}", told=told) for told in reach), *overridden])


def signature(manifest: Mapping[str, Any]) -> Piece:
    """Give the place to sign: what is signed for is named by its serial and its policy's hash."""
    digest = manifest["files"]["policy.json"]["sha256"]
    sentence = said(
        "I have read what this policy delays, refuses and lets through, and want {b_policy}, serial {b_serial} "
        "(policy.json: SHA-256 {digest}), to be carried out from {first} to {last}.",
        b_policy=manifest["policy"],
        b_serial=manifest["serial"],
        digest=digest,
        first=manifest["valid_from"],
        last=manifest["not_after"],
    )
    lines = [("name", ""), ("function", ""), ("date", ""), ("signature", "")]
    return together([sentence, pairs(dict(lines))], kind="signature")


def export_figures(manifest: Mapping[str, Any], calendar: pl.DataFrame) -> Piece:
    """Give the figures of an export: whom it holds, and what comes soon."""
    first = _first_day(manifest)
    now = calendar.filter(pl.col("from_on") <= first)
    soon = coming(manifest, calendar).filter(pl.col("enters_on") < first + timedelta(days=_SOON_DAYS))
    n_servers = calendar["server"].n_unique()
    lossy = now.filter((pl.col("block") > 0) & pl.col("running"))["server"].n_unique()
    still = now.filter(~pl.col("running"))["server"].n_unique()
    of = f"of {n_servers:,} servers"
    return figures(
        [
            Figure(what="servers under enforcement", value=f"{n_servers:,}", of=f"on {first}"),
            Figure(what="lose mail now", value=f"{lossy:,}", of=f"{of}: in a stage that blocks"),
            Figure(what="paused or exempt", value=f"{still:,}", of=f"{of}: their clocks stand still"),
            Figure(what=f"enter a stage within {_SOON_DAYS} days", value=f"{soon['server'].n_unique():,}", of=f"{of}"),
            Figure(
                what="holds for",
                value=plural((date.fromisoformat(manifest["not_after"]) - first).days + 1, "day"),
                of=f"{first} to {manifest['not_after']}; serial {manifest['serial']}, a later export has a greater one",
            ),
        ]
    )


def _first_day(manifest: Mapping[str, Any]) -> date:
    return date.fromisoformat(manifest["valid_from"])


def coming(manifest: Mapping[str, Any], calendar: pl.DataFrame) -> pl.DataFrame:
    """Give the days on which servers enter a stage after the first day of an export."""
    entered = calendar.group_by("server", "tenant", "cohort", "stage", "phase").agg(enters_on=pl.col("from_on").min())
    return entered.filter(pl.col("enters_on") > _first_day(manifest)).sort("server", "cohort", "stage")


def calendar_table(calendar: pl.DataFrame, policy: Policy) -> Piece:
    """Show the beginning of the servers' calendar."""
    names = {index + 1: stage_name(policy, index) for index in range(len(policy.stages))}
    shown = calendar.select(
        "server",
        "from_on",
        until=pl.col("until_on").cast(pl.String).fill_null("no end"),
        meets=pl.when("running")
        .then(pl.col("stage").replace_strict(names, return_dtype=pl.String))
        .otherwise(pl.lit("paused or exempt: everything is accepted")),
    )
    return table(shown, name="calendar", whole=calendar, rows=10, note="until: the first day no longer in it")


def files(manifest: Mapping[str, Any]) -> Piece:
    """List the files of an export with their hashes."""
    rows = [
        {"file": name, "bytes": of["bytes"], "sha256": of["sha256"]} for name, of in sorted(manifest["files"].items())
    ]
    inputs = [
        {"file": f"input: {name}", "bytes": None, "sha256": sha256} for name, sha256 in manifest["inputs"].items()
    ]
    frame = pl.DataFrame([*rows, *inputs], schema={"file": pl.String, "bytes": pl.Int64, "sha256": pl.String})
    return table(frame, name="files", rows=len(frame))


def history_entries(replay: Replay) -> pl.DataFrame:
    """Give the days on which servers of a replay enter each stage, within its period."""
    return replay.entries.filter(pl.col("enters_on").is_between(*replay.period))
