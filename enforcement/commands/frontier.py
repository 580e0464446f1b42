"""The commands that judge many schedules, or one under many assumptions, on the expected path."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from enforcement.commands.options import AsOf, Assumed, How, Pauses, StorePath, ThePolicy, folder
from enforcement.forecasts import HORIZON_DAYS, MOST_DAYS
from enforcement.names import printable
from enforcement.printing_frontier import print_search, print_swings
from enforcement.searches import MOST_CANDIDATES, Search, save_candidate, search, swings, write_search
from enforcement.terminal import Format, progress, say
from enforcement.workbench import DEFAULT_STORE, Setting

_Days = Annotated[int, typer.Option(metavar="N", min=1, max=MOST_DAYS, help="How many days ahead.")]


class MeasureName(StrEnum):
    """What a sensitivity is asked of."""

    RISK = "risk"
    DELAYED = "delayed"
    LOST = "lost"
    VULNERABLE = "vulnerable"


def frontier_command(
    space: Annotated[Path, typer.Argument(metavar="SPACE", help="A TOML file that names a family of policies.")],
    as_of: AsOf = None,
    days: _Days = HORIZON_DAYS,
    candidates: Annotated[
        int,
        typer.Option(
            "--candidates", metavar="N", min=1, max=MOST_CANDIDATES, help="How many are judged at most; more are drawn."
        ),
    ] = 10_000,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="The same seed draws the same candidates.")] = 1,
    assumptions: Assumed = "default",
    pauses: Pauses = None,
    store: StorePath = DEFAULT_STORE,
    out: Annotated[
        Path | None,
        typer.Option(parser=folder, metavar="DIR", help="Also write all candidates (Parquet) and the front (CSV)."),
    ] = None,
    save: Annotated[
        tuple[int, Path] | None,
        typer.Option(metavar="N FILE", help="Also write a candidate, by its number, as a policy file."),
    ] = None,
    how: How = Format.TABLE,
) -> None:
    """Search a family of policies for those that no other beats in risk left, mail delayed and mail lost.

    Each candidate is judged on what is expected: people react as supposed, at the assumptions' values. What a space
    file holds is in data/spaces/example.toml.
    """
    if save is not None:
        _check_target(save[1], space)
    asked = Search(space=space, n_days=days, at_most=candidates, seed=seed)
    setting = Setting(store=store, to_on=as_of, assumptions=assumptions, pauses=pauses)
    with progress() as report:
        found = search(asked, setting, report)
    if save is not None:
        policy = save_candidate(found, *save)
        say(f"candidate {save[0]} written to {save[1]} as {policy.name}; next: enforcement check {save[1]}")
    if out is not None:
        write_search(found, out)
        say(f"all candidates, the front and the record of this search in {out}")
    print_search(found, how)


def _check_target(path: Path, space: Path) -> None:
    """Refuse, before anything is searched, a file for a policy that cannot be written or holds the space."""
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise ValueError(f"{printable(str(path))}: no file can be written there (expected FILE.toml in a folder)")
    if path.exists() and space.exists() and path.samefile(space):
        raise ValueError(f"{printable(str(path))}: that is the space itself (name another file for the policy)")


def sensitivity_command(
    policy: ThePolicy,
    measure: Annotated[MeasureName, typer.Option(help="What is asked for.")] = MeasureName.RISK,
    as_of: AsOf = None,
    days: _Days = HORIZON_DAYS,
    assumptions: Assumed = "default",
    pauses: Pauses = None,
    store: StorePath = DEFAULT_STORE,
    how: How = Format.TABLE,
) -> None:
    """Say which assumption moves the answer most: each over its own 90 % range, the others at their value."""
    setting = Setting(store=store, to_on=as_of, assumptions=assumptions, pauses=pauses)
    with progress() as report:
        found = swings(policy, setting, measure=str(measure), n_days=days, report=report)
    print_swings(found, how)


def add_to(app: typer.Typer) -> None:
    """Give the app these commands."""
    app.command(
        "frontier", epilog="Example: enforcement frontier data/spaces/example.toml --out data/front --save 17 mine.toml"
    )(frontier_command)
    app.command("sensitivity", epilog="Example: enforcement sensitivity ninety-days --measure lost --days 180")(
        sensitivity_command
    )
