"""The command that answers Postfix in production."""

from pathlib import Path
from typing import Annotated

import typer

from enforcement.policy import OnFailure


def milter(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The export in force: where `install` keeps `current`.")
    ],
    socket: Annotated[
        str, typer.Option(metavar="SOCKET", help="Where Postfix asks: unix:/path, or inet:port@127.0.0.1.")
    ] = "unix:/run/enforcement/milter.sock",
    on_failure: Annotated[
        OnFailure, typer.Option(help="What mail meets while no export can be trusted.")
    ] = OnFailure.ACCEPT,
    log: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where decisions are logged; default: standard error.")
    ] = None,
) -> None:
    """Answer Postfix about each message, from the installed export, until stopped.

    A newer export is read as soon as it is installed. The lines for Postfix and a systemd unit are in `postfix/` of
    an export; decisions are JSON lines, which `import` reads.
    """
    try:
        from enforcement.export.milter import serve  # noqa: PLC0415 - its library is needed here alone
    except ModuleNotFoundError:
        raise ValueError(
            "the milter library is not installed (expected `make milter`, which needs a C compiler and libmilter-dev)"
        ) from None
    serve(folder, socket=socket, on_failure=on_failure, log=log)


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("milter", epilog="Example: enforcement milter /etc/enforcement/current --on-failure accept")(milter)
