"""The commands that bring an export to mail servers: keys, checks, installing and going back."""

import getpass
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from enforcement.commands.options import How
from enforcement.export.install import Act, Holds, InstallError, holding, install, rollback
from enforcement.export.signing import make_key, public_path_of, read_public_key
from enforcement.export.verify import verify
from enforcement.names import printable
from enforcement.terminal import Format, answer, say, sentences, write_answer

_Export = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of an export.")]
_Key = Annotated[
    Path | None, typer.Option("--key", metavar="PUBLIC", help="The public key (.pub) that must have signed it.")
]
_Root = Annotated[Path, typer.Option("--to", metavar="ROOT", help="Where mail servers look: ROOT/current.")]
_FAILED = 1


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
    app.command("keygen", epilog="Example: enforcement keygen --out ~/enforcement.key")(keygen_command)
    app.command("verify", epilog="Example: enforcement verify policy-for-production --key enforcement.key.pub")(
        verify_command
    )
    app.command(
        "install",
        epilog="Example: enforcement install policy-for-production --to /var/lib/enforcement --key enforcement.key.pub",
    )(install_command)
    app.command("rollback", epilog="Example: enforcement rollback --to /var/lib/enforcement")(rollback_command)
