"""The command that writes what each organisation's administrators need to act."""

from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from enforcement.commands.options import AsOf, How, Pauses, StorePath, ThePolicy, folder
from enforcement.terminal import Format, progress, say, show, write_answer
from enforcement.workbench import DEFAULT_STORE, Setting


def tenants_command(
    policy: ThePolicy,
    out: Annotated[Path, typer.Option(parser=folder, metavar="DIR", help="Where pages and tables go.")],
    as_of: AsOf = None,
    tenant: Annotated[
        list[str] | None, typer.Option(metavar="T", help="This tenant alone, whether it has something to do or not.")
    ] = None,
    pauses: Pauses = None,
    store: StorePath = DEFAULT_STORE,
    how: How = Format.TABLE,
) -> None:
    """Write a page and a table for each organisation: its servers, what to install, the days left, how to pause.

    All that a page needs is in it, and it holds nothing of other organisations.
    """
    from enforcement.tenants import LIST_NAME, reports_on, write_tenants  # noqa: PLC0415 - half a second, for charts

    with progress() as report:
        report("looking at the fleet", 0, 0)
        known = reports_on(policy, Setting(store=store, to_on=as_of, pauses=pauses))
        report("writing pages", 0, 0)
        written = write_tenants(known, out, tenant)
    for remark in known.remarks:
        say(remark)
    if how is not Format.TABLE:
        write_answer(written.listed, written.listed.with_columns(pl.col(pl.Date).cast(pl.String)).to_dicts(), how)
    else:
        show(written.listed, title=f"Pages by {known.policy.name} as of {known.as_of}, the next change first")
    listed = f"; list: {out / LIST_NAME}" if tenant is None else ""
    gone = f"; {written.removed} files of tenants with nothing to do any more removed" if written.removed else ""
    say(f"{written.listed.height:,} pages and tables in {out}{listed}{gone}")


def add_to(app: typer.Typer) -> None:
    """Give the app this command."""
    app.command("tenants", epilog="Example: enforcement tenants ninety-days --as-of yesterday --out for-tenants")(
        tenants_command
    )
