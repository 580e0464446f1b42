"""The command that runs notebooks to pages, by hand or by a timer."""

import os
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from enforcement import printing, report
from enforcement.commands.options import AsOf, How, StorePath
from enforcement.report import DEFAULT_OUT
from enforcement.terminal import Format, say
from enforcement.workbench import DEFAULT_STORE

PAIR: Final = "\x1f"  # between a key and its value
_FAILED: Final = 1
_SMTP: Final = "ENFORCEMENT_SMTP_"


def report_command(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A notebook; left out: all of them.")] = None,
    parameters: Annotated[
        list[str] | None, typer.Option("-p", metavar="KEY VALUE", help="A parameter; repeatable.")
    ] = None,
    as_of: AsOf = None,
    store: StorePath = DEFAULT_STORE,
    out: Annotated[Path, typer.Option(metavar="DIR", show_default="reports", help="Where pages go.")] = DEFAULT_OUT,
    force: Annotated[bool, typer.Option("--force", help="Run again what has run already.")] = False,
    keep: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Keep the last N runs of each notebook, and the last that is done."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would run, and what --keep would remove; do nothing.")
    ] = False,
    how: How = Format.TABLE,
) -> None:
    """Run notebooks to pages under reports/, with a record each and an index.

    The same notebook, parameters and mail are the same run, which is not run again. Exit codes: 0 done (or done
    before), 1 a run failed or its mail could not be sent, 2 it could not begin.
    """
    post = None if dry_run else _post()
    try:
        given = _given(name, parameters or [], as_of)
        planned = report.plan_runs([name] if name else [], given, store=store, out=out)
    except (ValueError, LookupError, OSError) as problem:
        _tell_refusal(post, name, problem)
        raise
    if dry_run:
        printing.planned(planned, how)
        if keep is not None:
            to_come = [plan.name for plan, is_done in planned if force or not is_done]
            _say_removed(report.prune(out, keep, is_dry=True, to_come=to_come), "would remove")
        return
    results = []
    for result in report.run_all([name] if name else [], given, store=store, out=out, force=force):
        printing.run_ended(result)
        results.append(result)
    printing.reported(results, out, how)
    is_told = _tell(post, results)
    if keep is not None:
        _say_removed(report.prune(out, keep), "removed")
        report.write_index(out)
    if any(result.error for result in results) or not is_told:
        raise typer.Exit(_FAILED)


def _given(name: str | None, pairs: Sequence[str], as_of: date | None) -> dict[str, Any]:
    """Read the parameters that were given; a day is one before anything runs, so that its run is the same all day."""
    told = dict(pair.split(PAIR, 1) for pair in pairs)
    given: dict[str, Any] = report.parse_parameters(name, told) if name else dict(told)
    if as_of is None:
        return given
    today = datetime.now(tz=UTC).date()
    if as_of > today:
        raise ValueError(f"--as-of {as_of} is after today (expected {today} or before)")
    if "to_on" in given:
        raise ValueError("--as-of and -p to_on both name the last day (expected one of them)")
    return given | {"to_on": as_of.isoformat()}


def _say_removed(removed: list[str], what: str) -> None:
    names = f": {', '.join(removed)}" if removed else ""
    say(f"{what} {len(removed)} older {'run' if len(removed) == 1 else 'runs'}{names}")


def _post() -> Any:  # noqa: ANN401 - its module is loaded only where mail is asked for
    if not any(key.startswith(_SMTP) for key in os.environ):
        return None
    from enforcement.report_mail import read_post  # noqa: PLC0415 - only a report that is mailed needs it

    post = read_post(os.environ)
    os.environ.pop(f"{_SMTP}PASSWORD", None)  # the kernels that run notebooks have no use for it
    return post


def _tell(post: Any, results: list[report.RunResult]) -> bool:  # noqa: ANN401 - as above
    if post is None:
        return True
    from enforcement.report_mail import MailError, mail_results  # noqa: PLC0415 - as above

    try:
        sent = mail_results(post, results)
    except MailError as problem:
        say(str(problem))
        return False
    if sent:
        say(f"mailed to {len(post.recipients)}: {post.host}")
    return True


def _tell_refusal(post: Any, name: str | None, problem: Exception) -> None:  # noqa: ANN401 - as above
    if post is None:
        return
    from enforcement.report_mail import MailError, mail_refusal  # noqa: PLC0415 - as above

    try:
        mail_refusal(post, name, str(problem))
    except MailError as other:
        say(str(other))


def add_to(app: typer.Typer) -> None:
    """Give the app this command."""
    app.command(
        "report",
        epilog="Example: enforcement report 03_replay -p policies '[ninety-days, gentler]'; "
        "enforcement report weekly --as-of yesterday --keep 60",
    )(report_command)
