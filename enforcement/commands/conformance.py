"""The command that shows whether a target says what the model says."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from enforcement.commands.options import How
from enforcement.export import exim_server, other_targets
from enforcement.export.conformance import VECTORS_NAME, Agreement, Target, conform, read_vectors
from enforcement.names import printable
from enforcement.printing_conformance import print_agreements
from enforcement.terminal import Format, say

_FAILED: Final = 1
# What each name asks: first what only evaluates, then what speaks SMTP.
TARGETS: Final[dict[str, Sequence[Target]]] = {
    "exim": (exim_server.EVALUATED, exim_server.SERVER),
    "postfix": (other_targets.POSTFIX,),
    "rego": (other_targets.REGORUS, other_targets.REGO_CPP),
}


def conformance_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of an export.")],
    target: Annotated[
        str, typer.Option(metavar="TARGET", help="exim, postfix, rego, or a program with its arguments, in quotes.")
    ],
    limit: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Ask at most so many vectors, spread over all; else as many as is quick."
        ),
    ] = None,
    how: How = Format.TABLE,
) -> None:
    """Drive the vectors of an export through a target and compare its answers with the model's; exit code 1 if any differs.

    Exim and Postfix are started for this on loopback by a clock of their own (as root; packages exim4-daemon-heavy,
    postfix, faketime); Rego asks two evaluators. A program of yours gets the export's folder as its last argument and
    the vectors as JSON lines on standard input, and writes an answer a line, in order:
    {"verdict": "accept"|"defer"|"reject", "code", "enhanced_code", "text", and, where it can tell, "reason", "stage"}.
    """
    targets = TARGETS.get(target) or (other_targets.program(target),)
    try:
        vectors = read_vectors((folder / VECTORS_NAME).read_bytes())
    except FileNotFoundError:
        raise ValueError(
            f"{printable(str(folder))} holds no {VECTORS_NAME} (expected the folder of an export)"
        ) from None
    agreements: list[Agreement] = []
    for each in targets:
        say(f"asking {each.name}")
        try:
            agreements.append(conform(each, folder, vectors, limit))
        except (RuntimeError, ConnectionError) as problem:  # of a server or an evaluator that does not work
            raise ValueError(f"{each.name}: {problem}") from None
    print_agreements(agreements, how)
    if any(each.differences for each in agreements):
        raise typer.Exit(_FAILED)


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "conformance", epilog='Example: enforcement conformance out --target rego; … --target "python3 mine.py --fast"'
    )(conformance_command)
