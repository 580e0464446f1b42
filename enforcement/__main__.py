"""The commands: arguments in, one call out."""

import json
import os
import signal
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from typer.exceptions import TyperException

from enforcement import exporting, forecasts, intake, interruption, printing, shipped, workbench
from enforcement.check import Severity
from enforcement.commands import conformance, drift, forecast, frontier, milter, production, reports, tenants
from enforcement.commands.options import (
    AsOf,
    Assumed,
    DaysAhead,
    Draws,
    Engine,
    From,
    How,
    Master,
    Pauses,
    Policies,
    Rules,
    Seed,
    StorePath,
    ThePolicy,
    To,
    Traffic,
    day,
    folder,
    time,
)
from enforcement.commands.reports import PAIR
from enforcement.export.write import RefusedError
from enforcement.exporting import Order
from enforcement.importers.sources import find_sources
from enforcement.policy_text import policy_schema
from enforcement.rollout import Trial
from enforcement.sample import Extent
from enforcement.tables_of_replay import write_tables
from enforcement.terminal import Format, progress, say
from enforcement.workbench import DEFAULT_STORE, Setting

_USAGE: Final = 2
_FAILED: Final = 1
_INTERRUPTED: Final = 130

app = typer.Typer(
    name="enforcement",
    help="Design the enforcement against persistently vulnerable Exchange servers on your own mail history.",
    epilog="Begin with: enforcement sample; enforcement fleet; enforcement replay ninety-days gentler",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
forecast.add_to(app)
frontier.add_to(app)
milter.add_to(app)
conformance.add_to(app)
production.add_to(app)
drift.add_to(app)
reports.add_to(app)
tenants.add_to(app)


@app.command(epilog="Example: enforcement sample --messages 100000 --seed 7 --store data/small.duckdb")
def sample(
    store: StorePath = DEFAULT_STORE,
    messages: Annotated[int, typer.Option(metavar="N", help="How many messages.")] = 1_000_000,
    servers: Annotated[
        int | None, typer.Option(metavar="N", help="How many servers; left out: one for 20 messages, at most 5,000.")
    ] = None,
    days: Annotated[int, typer.Option(metavar="N", help="Over how many days.")] = 180,
    seed: Annotated[int, typer.Option(metavar="N", help="The same seed gives the same data.")] = 1,
    how: How = Format.TABLE,
) -> None:
    """Make up a fleet and its traffic, to try everything on."""
    with progress() as report:
        record = intake.make_sample(store, Extent(messages=messages, servers=servers, days=days, seed=seed), report)
    printing.imports([record], how)
    say(f"the sample is in {store}; next: enforcement fleet, enforcement replay ninety-days")


@app.command("import", epilog="Example: enforcement import archive.mbox.gz --own-host '*.mail.example.net'")
def import_(
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE…", help="Mail (mbox, .eml, Maildir), tables (CSV, Parquet), logs.")
    ],
    store: StorePath = DEFAULT_STORE,
    own_host: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="The service's own hosts, e.g. '*.mail.example.net'; repeatable."),
    ] = None,
    times_rounded_to: Annotated[str | None, typer.Option(metavar="hour", help="The source has no minutes.")] = None,
    how: How = Format.TABLE,
) -> None:
    """Import mail history; every row is stored or kept as a reject."""
    found = [
        each
        for source in sources
        for each in find_sources(Path(source), own_hosts=own_host or (), times_rounded_to=times_rounded_to)
    ]
    with progress() as report:
        done = intake.import_sources(store, found, report)
    printing.imports(done.records, how, rejected=done.rejected)
    if done.problems:
        raise ValueError("\n".join(done.problems))


@app.command(epilog="Example: enforcement forget 3; enforcement forget --before 2025-01-01")
def forget(
    import_id: Annotated[int | None, typer.Argument(metavar="[IMPORT]", help="Its number; see `imports`.")] = None,
    before: Annotated[date | None, typer.Option(parser=day, metavar="D", help="All rows before this day.")] = None,
    store: StorePath = DEFAULT_STORE,
) -> None:
    """Remove an import, or all rows before a day."""
    if (import_id is None) == (before is None):
        raise ValueError("expected the number of an import, or --before D")
    printing.forgotten(intake.forget(store, import_id=import_id, before=before))


@app.command(epilog="Example: enforcement fleet --as-of 2026-09-30 --format csv > fleet.csv")
def fleet(
    policy: Rules = "ninety-days",
    as_of: AsOf = None,
    store: StorePath = DEFAULT_STORE,
    how: How = Format.TABLE,
) -> None:
    """List the servers seen: build, what it proves, standing, and why."""
    with progress() as report:
        report("looking at the fleet", 0, 0)
        known = workbench.fleet_on(policy, Setting(store=store, to_on=as_of))
    printing.fleet(known, how)


@app.command(epilog="Example: enforcement check mine.toml")
def check(
    policies: Policies,
    as_of: AsOf = None,
    how: How = Format.TABLE,
) -> None:
    """Check policy files: errors, and what is allowed but rarely meant."""
    today = as_of or datetime.now(tz=UTC).date()
    found, problems = workbench.check_policies(policies, today)
    printing.checked(found, how)
    if problems:
        raise ValueError("\n".join(problems))
    if any(lint.severity is Severity.WARNING for lints in found.values() for lint in lints):
        raise typer.Exit(_FAILED)


@app.command(epilog="Example: enforcement schema > policy.schema.json")
def schema() -> None:
    """Print the JSON Schema of policy files, for editors."""
    print(json.dumps(policy_schema(), indent=2))  # noqa: T201 - the answer itself


@app.command(epilog="Example: enforcement replay ninety-days gentler --from 2026-08-01")
def replay(
    policies: Policies,
    from_on: From = None,
    to_on: To = None,
    as_of: AsOf = None,
    assumptions: Assumed = "default",
    pauses: Pauses = None,
    store: StorePath = DEFAULT_STORE,
    traffic: Traffic = None,
    engine: Engine = None,
    master: Master = None,
    out: Annotated[
        Path | None, typer.Option(parser=folder, metavar="DIR", help="Also write who is hit, and when, as Parquet.")
    ] = None,
    how: How = Format.TABLE,
) -> None:
    """Replay policies over the history: what each would have delayed and lost."""
    setting = Setting(
        store=store, from_on=from_on, to_on=_earlier(to_on, as_of), assumptions=assumptions, pauses=pauses,
        traffic=traffic, engine=engine, master=master,
    )  # fmt: skip
    with progress() as report:
        results = workbench.replay_policies(policies, setting, tell=say, report=report)
    if out is not None:
        write_tables(results, out)
        say(f"tables in {out}, a folder each policy: who is hit, how much, in which stage, and when")
    printing.replays(results, how)
    if any("fail" in result.guardrails["state"] for result in results):
        raise typer.Exit(_FAILED)


@app.command(epilog="Example: enforcement compare ninety-days gentler; enforcement compare mine.toml --baseline none")
def compare(
    policies: Policies,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="POLICY", help="What they are held against: a policy, or none.", show_default="the first"),
    ] = None,
    from_on: From = None,
    to_on: To = None,
    as_of: AsOf = None,
    assumptions: Assumed = "default",
    pauses: Pauses = None,
    store: StorePath = DEFAULT_STORE,
    traffic: Traffic = None,
    engine: Engine = None,
    master: Master = None,
    draws: Draws = 200,
    days: DaysAhead = forecasts.HORIZON_DAYS,
    seed: Seed = 1,
    how: How = Format.TABLE,
) -> None:
    """Compare policies: what each delays, loses and lets through more than the baseline, and of whom.

    First in the mail of the past, where nobody reacts; then, as chance is drawn many times and people react, in the
    days to come.
    """
    setting = Setting(
        store=store, from_on=from_on, to_on=_earlier(to_on, as_of), assumptions=assumptions, pauses=pauses,
        traffic=traffic, engine=engine, master=master,
    )  # fmt: skip
    with progress() as report:
        found = workbench.compare_policies(policies, setting, baseline=baseline, tell=say, report=report)
        trial = Trial(n_draws=draws, seed=seed)
        ahead = forecasts.forecast(forecasts.beside(found, n_days=days), setting, trial, report) if draws else None
    printing.compared(found, ahead, how)
    if any("fail" in proposal.replay.guardrails["state"] for proposal in found.proposals):
        raise typer.Exit(_FAILED)


@app.command(epilog="Example: enforcement explain ninety-days --server mx1.contoso.example --at 2026-10-31T14:05")
def explain(
    policy: ThePolicy,
    server: Annotated[str, typer.Option(metavar="S", help="The server that handed the mail over.")],
    at: Annotated[datetime, typer.Option(parser=time, metavar="T", help="When, in UTC.")],
    build: Annotated[str | None, typer.Option(metavar="B", help="The build, instead of the last one seen.")] = None,
    assumptions: Assumed = "default",
    pauses: Pauses = None,
    store: StorePath = DEFAULT_STORE,
    how: How = Format.TABLE,
) -> None:
    """Explain what a message of a server meets, and why, in words."""
    setting = Setting(store=store, assumptions=assumptions, pauses=pauses)
    printing.explained(workbench.explain_message(policy, setting, server=server, at=at, build=build), how)


@app.command(epilog="Example: enforcement export ninety-days --as-of yesterday --out policy-for-production")
def export(
    policy: ThePolicy,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write; an earlier export is replaced.")],
    as_of: AsOf = None,
    override: Annotated[str | None, typer.Option(metavar="REASON", help="Why guardrails may be broken.")] = None,
    revision: Annotated[int, typer.Option(metavar="N", help="A second export of the same day has a greater one.")] = 0,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="A key of `keygen` that signs the export.")] = None,
    notices_sent: Annotated[
        Path | None, typer.Option(metavar="FILE", help="CSV: the ledger of notices that went out.")
    ] = None,
    identities: Annotated[
        Path | None, typer.Option(metavar="FILE", help="CSV: address, network or certificate of a server.")
    ] = None,
    assumptions: Assumed = "default",
    pauses: Pauses = None,
    store: StorePath = DEFAULT_STORE,
    how: How = Format.TABLE,
) -> None:
    """Export a policy: its files, each server's calendar, and the manifest."""
    setting = Setting(store=store, to_on=as_of, assumptions=assumptions, pauses=pauses)
    order = Order(
        out=out,
        override=override,
        revision=revision,
        key=key,
        identities=identities,
        notices_sent=notices_sent,
        today=datetime.now(tz=UTC).date(),
    )
    printing.exported(exporting.export_policy(policy, setting, order), how)


@app.command(epilog="Example: enforcement lab")
def lab(
    port: Annotated[int, typer.Option(metavar="N", help="Where the server listens, on this machine only.")] = 8888,
) -> None:
    """Open JupyterLab on the notebooks."""
    folder = shipped.DATA.parent / "notebooks"
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder.parent}", f"--port={port}"]
    # Left to itself, JupyterLab asks hosts on the network for news, updates and extensions, and people about news.
    own = str(shipped.DATA / "lab")
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join([own, *filter(None, [os.environ.get("JUPYTER_CONFIG_PATH")])])
    command += ["--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    command += ["--LabApp.extension_manager=readonly"]
    if os.geteuid() == 0:  # as in most containers, where JupyterLab would only name an option of its own and end
        command.append("--allow-root")
        say("you are root: whatever runs in a notebook may do anything on this machine")
    if not DEFAULT_STORE.exists():
        say(f"no mail history at {DEFAULT_STORE}: `enforcement sample` makes one up, `enforcement import` reads yours")
    say(f"JupyterLab opens on {folder}; choose Run > Run All Cells there; Ctrl-C ends it")
    os.execv(sys.executable, [*command, "--LabApp.default_url=/lab/tree/notebooks/02_policy.ipynb"])  # noqa: S606 - no shell is wanted


def _with_pairs(arguments: list[str]) -> list[str]:
    """Join the two words after each -p of `report` into one, since typer has no repeatable option of two words."""
    if arguments[:1] != ["report"]:
        return arguments
    joined: list[str] = []
    rest = iter(arguments)
    for word in rest:
        joined.append(word)
        if word == "-p":
            key, value = next(rest, None), next(rest, None)
            if key is None or value is None:
                raise ValueError("-p takes a key and a value, e.g. -p policies '[ninety-days, gentler]'")
            joined.append(key + PAIR + value)
    return joined


def _earlier(*days: date | None) -> date | None:
    return min((day for day in days if day is not None), default=None)


def _ran(arguments: list[str]) -> int:
    """Run a command and give its exit code; when the user has asked to stop, that is how it ends."""
    try:
        done: int | None = app(arguments, standalone_mode=False)
    except Exception:
        interruption.check()  # an engine may call it an error of its own
        raise
    if done == _INTERRUPTED:  # typer makes an exit code of Ctrl-C, and says nothing
        raise KeyboardInterrupt
    interruption.check()
    return done or 0


def main() -> None:
    """Run a command; what is wrong with its input is told in one line a problem, without a traceback."""
    if sys.argv[1:2] not in (["report"], ["lab"]):  # these talk with other programs, whose end they must survive
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `… | head` ends a command as it ends others
    interruption.watch()
    try:
        arguments = _with_pairs(sys.argv[1:])
        done = _ran(arguments or ["--help"])
        sys.exit(done if arguments else _USAGE)
    except TyperException as problem:
        told, code = problem.format_message(), _USAGE
    except RefusedError as problem:
        told, code = str(problem), _FAILED
    except (ValueError, LookupError, OSError) as problem:
        told, code = _in_words(problem), _USAGE
    except KeyboardInterrupt:
        told, code = "interrupted; what was in work is not stored, what was done before is", _INTERRUPTED
    except Exception as problem:
        if os.environ.get("ENFORCEMENT_TRACEBACK"):
            raise
        told = f"a fault of this program: {type(problem).__name__}: {problem} (ENFORCEMENT_TRACEBACK=1 shows where)"
        code = _USAGE
    for line in told.splitlines() or [""]:
        say(f"enforcement: {line}")
    sys.exit(code)


def _in_words(problem: Exception) -> str:
    if isinstance(problem, OSError) and problem.strerror:
        return f"{problem.filename}: {problem.strerror}" if problem.filename else problem.strerror
    return str(problem.args[0]) if isinstance(problem, KeyError) and problem.args else str(problem)


if __name__ == "__main__":
    main()
