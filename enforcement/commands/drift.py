"""The command that holds production's own log against a policy."""

import typer

from enforcement.commands.options import AsOf, Assumed, From, How, Pauses, StorePath, ThePolicy, To
from enforcement.drifts import drift
from enforcement.printing_drift import print_drift
from enforcement.terminal import Format, progress
from enforcement.workbench import DEFAULT_STORE, Setting

_DIFFERS = 1


def drift_command(
    policy: ThePolicy,
    from_on: From = None,
    to_on: To = None,
    as_of: AsOf = None,
    assumptions: Assumed = "default",
    pauses: Pauses = None,
    store: StorePath = DEFAULT_STORE,
    how: How = Format.TABLE,
) -> None:
    """Compare what production decided with what the policy says, and the mail that came with that expected.

    `import` reads the decision logs of the targets. Each decision is judged again as the export of its serial should
    have, on the mail history up to the day of that export. Exit code 1: something differs.
    """
    setting = Setting(store=store, from_on=from_on, to_on=to_on, assumptions=assumptions, pauses=pauses)
    with progress() as report:
        found = drift(policy, setting, as_of=as_of, report=report)
    print_drift(found, how)
    if not found.is_as_expected:
        raise typer.Exit(_DIFFERS)


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("drift", epilog="Example: enforcement drift ninety-days --from 2026-11-16 --to 2026-11-22")(
        drift_command
    )
