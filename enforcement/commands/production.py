"""The commands that bring a policy to people and mail servers: notices, keys, checks, installing and going back."""

import getpass
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import polars as pl
import typer

from enforcement.announcing import Announced, notices_on, write_notices
from enforcement.commands.options import AsOf, How, Pauses, StorePath, ThePolicy
from enforcement.export.install import Act, Holds, InstallError, holding, install, rollback
from enforcement.export.signing import make_key, public_path_of, read_public_key
from enforcement.export.verify import verify
from enforcement.names import printable
from enforcement.terminal import Format, answer, progress, say, sentences, show, write_answer
from enforcement.workbench import DEFAULT_STORE, Setting

_Export = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of an export.")]
_Key = Annotated[
    Path | None, typer.Option("--key", metavar="PUBLIC", help="The public key (.pub) that must have signed it.")
]
_Root = Annotated[Path, typer.Option("--to", metavar="ROOT", help="Where mail servers look: ROOT/current.")]
_FAILED: Final = 1
_ROWS: Final = 20


def notices_command(
    policy: ThePolicy,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write; earlier notices are replaced.")],
    as_of: AsOf = None,
    pauses: Pauses = None,
    notices_sent: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Notices that went out: CSV notice,cohort,tenant,sent_on, kept by you."),
    ] = None,
    store: StorePath = DEFAULT_STORE,
    how: How = Format.TABLE,
) -> None:
    """Write the notices of a day: to all, to each tenant concerned, the list to mail by, what must go out when.

    What DIR/to-send.csv lists is to be sent that day; once it is, append its rows to your ledger.
    """
    with progress() as report:
        report("working out who is to be told", 0, 0)
        made = notices_on(policy, Setting(store=store, to_on=as_of, pauses=pauses), notices_sent)
        report("writing", 0, 0)
        write_notices(made.files, out)
    _print_notices(made, out, how, has_ledger=notices_sent is not None)


def _print_notices(made: Announced, out: Path, how: Format, *, has_ledger: bool) -> None:
    on = made.planned.as_of
    if how is not Format.TABLE:
        record = {
            "as_of": on,
            "tenants_told": made.n_told,
            "to_send": made.to_send.to_dicts(),
            "calendar": made.calendar.to_dicts(),
            "refusals": made.judged.refusals,
            "relies_on": made.judged.assumed,
        }
        write_answer(made.to_send, record, how)
        return
    kinds = made.to_send.group_by("notice").len().sort("notice").rows()
    todo = ", ".join(f"{n:,} {name}" for name, n in kinds) or "none"
    late = "that are due by then and not in the ledger" if has_ledger else "that are due on that very day"
    sentences(
        [
            f"{out}: the general notice, and texts for {made.n_told:,} tenants with an unremediated server on {on}.",
            f"To be sent on {on} ({late}): {todo}; to-send.csv has the rows for your ledger.",
        ]
    )
    coming = made.calendar.filter(pl.col("must_go_out_on") >= on)
    if coming.height:
        title = f"What must go out from {on} on"
        if coming.height > _ROWS:
            title += f"; the first {_ROWS} of {coming.height:,} rows, calendar.csv has all"
        show((coming if has_ledger else coming.drop("sent")).head(_ROWS), title=title, rows=_ROWS)
    else:
        sentences([f"Nothing else is known to be due after {on}; calendar.csv has what was due before."])
    if made.judged.refusals:
        sentences(["An export of this day is refused:", *(f"  {each}" for each in made.judged.refusals)])
    elif made.judged.assumed:
        sentences(["An export of this day rests on notices:", *(f"  {each}" for each in made.judged.assumed)])


def keygen_command(
    out: Annotated[Path, typer.Option(metavar="FILE", help="A new file for the private key; FILE.pub is beside it.")],
) -> None:
    """Make a key pair to sign exports with: the private half stays here, the public one goes to the mail servers."""
    made = make_key(out)
    answer(f"{out}: the private key, for `export --key`; keep it to yourself, it cannot be made again")
    answer(f"{public_path_of(out)}: the public key {made.keyid[:16]}, for `verify --key` and `install --key`")


def verify_command(
    folder: _Export,
    key: _Key = None,
    installed: Annotated[
        Path | None, typer.Option(metavar="ROOT", help="Also refuse what is older than the export installed there.")
    ] = None,
    how: How = Format.TABLE,
) -> None:
    """Check an export: whole, in force, and signed with your key; exit code 1 when it must not be used."""
    public = read_public_key(key) if key else None
    _expect_folder(folder)
    found = verify(
        folder, today=_now().date(), key=public, holding=holding(_expect_folder(installed)) if installed else None
    )
    told = [*found.reasons, *found.notes]
    if how is Format.TABLE:
        sentences([f"{folder}: {'fit for use' if found.ok else 'REFUSED'}", *(f"  {line}" for line in told)])
    else:
        table = pl.DataFrame({"reason": told}, schema={"reason": pl.String}).with_columns(ok=pl.lit(found.ok))
        write_answer(table, {"ok": found.ok, "reasons": told}, how)
    if not found.ok:
        raise typer.Exit(_FAILED)


def install_command(folder: _Export, root: _Root, key: _Key = None, how: How = Format.TABLE) -> None:
    """Install an export for mail servers: check it, copy it, switch ROOT/current to it; the one before is kept."""
    public = read_public_key(key) if key else None
    _expect_folder(folder)
    try:
        done = install(folder, root, act=_act(), key=public)
    except InstallError as refused:
        raise _refused(refused) from None
    told = "installed" if done.changed else "was installed already; nothing changed"
    _print(done, f"serial {done.serial} {told}: {root / 'current'}", how)


def rollback_command(root: _Root, key: _Key = None, how: How = Format.TABLE) -> None:
    """Go back to the export installed before the one in force; an expired or damaged one is refused."""
    public = read_public_key(key) if key else None
    try:
        done = rollback(root, act=_act(), key=public)
    except InstallError as refused:
        raise _refused(refused) from None
    _print(done, f"serial {done.serial} holds again: {root / 'current'}", how)


def _print(done: Holds, told: str, how: Format) -> None:
    if how is Format.TABLE:
        before = f"; `rollback` goes back to serial {done.before}" if done.before is not None else ""
        sentences([f"{told}{before}", *(f"  {line}" for line in (*done.reload, *done.notes))])
        return
    record = {
        "serial": done.serial,
        "changed": done.changed,
        "before": done.before,
        "reload": list(done.reload),
        "notes": list(done.notes),
    }
    row = {key: "; ".join(value) if isinstance(value, list) else value for key, value in record.items()}
    write_answer(pl.DataFrame([row]), record, how)


def _refused(problem: InstallError) -> typer.Exit:
    for line in problem.reasons:
        say(f"enforcement: {printable(line)}")
    return typer.Exit(_FAILED)


def _expect_folder(path: Path) -> Path:
    if not path.is_dir():
        raise ValueError(f"{printable(str(path))}: no such folder")
    return path


def _now() -> datetime:
    return datetime.now(tz=UTC)


def _act() -> Act:
    """Say who acts, by the name that the system knows."""
    try:
        who = getpass.getuser()
    except (OSError, KeyError):  # an id without a name, as in some containers
        who = f"user {os.getuid()}"
    return Act(at=_now(), by=f"{who} on {os.uname().nodename}")


def add_to(app: typer.Typer) -> None:
    """Give the app these commands."""
    app.command("notices", epilog="Example: enforcement notices exchange-online --as-of yesterday --out notices")(
        notices_command
    )
    app.command("keygen", epilog="Example: enforcement keygen --out ~/enforcement.key")(keygen_command)
    app.command("verify", epilog="Example: enforcement verify policy-for-production --key enforcement.key.pub")(
        verify_command
    )
    app.command(
        "install",
        epilog="Example: enforcement install policy-for-production --to /var/lib/enforcement --key enforcement.key.pub",
    )(install_command)
    app.command("rollback", epilog="Example: enforcement rollback --to /var/lib/enforcement")(rollback_command)
