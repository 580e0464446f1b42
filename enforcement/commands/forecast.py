"""The commands that ask what may happen."""

from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from enforcement import shipped
from enforcement.assumptions_text import assumptions_text
from enforcement.backtest import TOO_SHORT, backtest, quarterly_cuts
from enforcement.calibrate import Calibration, Definition, assumptions_of, calibrate, calibration_answer
from enforcement.commands.options import AsOf, Assumed, From, How, Pauses, Policies, StorePath, day, folder
from enforcement.forecasts import HORIZON_DAYS, MOST_DAYS, MOST_DRAWS, Question, forecast, write_forecast
from enforcement.policy import NO_POLICY
from enforcement.printing_forecast import print_forecast
from enforcement.rollout import Trial
from enforcement.seen_patching import patch_histories
from enforcement.terminal import Format, progress, say, sentences, show, write_answer
from enforcement.workbench import DEFAULT_STORE, Setting

_History = Annotated[
    Path | None,
    typer.Option(
        "--history",
        metavar="CSV",
        help="Instead of the store: server,tenant,build,first_seen_at,last_seen_at,messages.",
    ),
]
_Seed = Annotated[int, typer.Option(metavar="N", min=0, help="The same seed gives the same answer.")]


def calibrate_command(
    store: StorePath = DEFAULT_STORE,
    history: _History = None,
    from_on: From = None,
    as_of: AsOf = None,
    definition: Annotated[
        Definition, typer.Option(help="When a change counts: at the first sighting, or somewhere in the gap before it.")
    ] = Definition.AS_SEEN,
    assumptions: Annotated[
        str, typer.Option("--assumptions", metavar="FILE", help="Where the rest comes from: a shipped name or a file.")
    ] = "default",
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write an assumptions file.")] = None,
    seed: _Seed = 1,
    how: How = Format.TABLE,
) -> None:
    """Estimate from sightings how fast servers are patched, and make an assumptions file of it."""
    base = shipped.load_assumptions(assumptions)
    with progress() as report:
        report("estimating", 0, 0)
        found = calibrate(
            patch_histories(store=store, table=history, to_on=as_of), definition=definition, from_on=from_on, seed=seed
        )
    if out is not None:
        named = history.name if history else store.name
        heading = (
            f"Calibrated by `enforcement calibrate` on {named}, {found.from_on} to {found.to_on}, changes"
            f" {found.definition}.\nWhat cannot be learned from sightings is as in the assumptions {assumptions}."
        )
        text = assumptions_text(assumptions_of(found, base, history=named), heading=heading)
        out.write_text(text, encoding="utf-8", newline="\n")
        say(f"assumptions written to {out}")
    _print_calibration(found, how)


def backtest_command(
    store: StorePath = DEFAULT_STORE,
    history: _History = None,
    cut: Annotated[
        list[str] | None,
        typer.Option(metavar="D", help="A day to forecast from; repeatable.", show_default="every 13 weeks"),
    ] = None,
    *,
    without_largest: Annotated[
        bool, typer.Option("--without-largest", help="Leave out the tenant with most servers.")
    ] = False,
    seed: _Seed = 1,
    how: How = Format.TABLE,
) -> None:
    """Forecast from days in the past, and score the bands and errors by what came."""
    known = patch_histories(store=store, table=history)
    if without_largest and len(known.server):
        known = known.without_tenant(known.largest_tenant)
    cuts = [day(text) for text in cut] if cut else quarterly_cuts(known)
    if not cuts:
        raise ValueError(f"{TOO_SHORT} (name a day with --cut)")
    left_out: list[str] = []
    with progress() as report:
        leave_out = None if cut else left_out.append  # a day that was asked for is not left out in silence
        scored = backtest(known, sorted(set(cuts)), seed=seed, report=report, leave_out=leave_out)
    for why in left_out:
        say(f"left out: {why}")
    if how is not Format.TABLE:
        write_answer(scored, scored.to_dicts(), how)
        return
    shown = scored.select(
        pl.col("cut").cast(pl.String).fill_null("all"),
        *("servers", "tenants"),
        effective=pl.col("effective_tenants").round(1),
        events="events",
        **{f"{percent} %": pl.col(f"cover_{percent}").round(0) for percent in (90, 50)},
        crps=pl.col("crps").round(1),
        bias=pl.col("bias").round(1),
        width=pl.col("width_90").round(1),
        last=pl.col("crps_last_value").round(1),
        constant=pl.col("crps_constant_rate").round(1),
    )
    title = (
        "26 weeks from each cut: effective tenants; weeks held by the bands in %; error (CRPS), bias and width of the"
        " 90 % band in points of share; errors of the last value and a constant rate. all: counts are"
        " means a cut (cuts share weeks, servers and events), the rest means a week"
    )
    show(shown, title=title, rows=shown.height)
    pooled = scored.row(-1, named=True)
    told = (
        f"90 % bands hold {pooled['cover_90']:.0f} % of the weeks, 50 % bands {pooled['cover_50']:.0f} %. The error"
        f" (CRPS) is {pooled['crps']:.1f} points of share; {pooled['crps_last_value']:.1f} if nothing changed,"
        f" {pooled['crps_constant_rate']:.1f} at a constant rate."
    )
    pairs = (
        f"{pooled[name]:,} {name} tell as much as {pooled[f'effective_{name}']:.0f}"
        for name in ("servers", "tenants", "events")
    )
    effective = f"At a cut, {', '.join(pairs)} that have nothing to do with each other."
    sentences([told, effective])


def rollout_command(
    policies: Policies,
    as_of: AsOf = None,
    days: Annotated[int, typer.Option(metavar="N", min=1, max=MOST_DAYS, help="How many days ahead.")] = HORIZON_DAYS,
    draws: Annotated[int, typer.Option(metavar="N", min=1, max=MOST_DRAWS, help="How many draws of chance.")] = 1000,
    seed: _Seed = 1,
    baseline: Annotated[
        str, typer.Option(metavar="POLICY", help="What stands beside them: a policy, or none.")
    ] = NO_POLICY,
    assumptions: Assumed = "default",
    pauses: Pauses = None,
    store: StorePath = DEFAULT_STORE,
    out: Annotated[
        Path | None,
        typer.Option(parser=folder, metavar="DIR", help="Also write the bands as Parquet, and a record of this run."),
    ] = None,
    how: How = Format.TABLE,
) -> None:
    """Forecast what may happen under policies: people react, so servers are patched or retired.

    Chance is drawn many times, the same for all policies. A band of 90 % leaves out a twentieth of the draws at each
    end, one of 50 % a quarter.
    """
    setting = Setting(store=store, to_on=as_of, assumptions=assumptions, pauses=pauses)
    with progress() as report:
        asked = Question(policies=policies, baseline=baseline, n_days=days)
        found = forecast(asked, setting, Trial(n_draws=draws, seed=seed), report)
    if out is not None:
        write_forecast(found, out)
        say(f"bands by day and the record of this run in {out}")
    print_forecast(found, how)


def _print_calibration(found: Calibration, how: Format) -> None:
    answer = calibration_answer(found)
    rows = pl.DataFrame(answer["hazards"])
    if how is not Format.TABLE:
        write_answer(rows, answer, how)
        return
    percent = pl.col("rate_per_week", "low", "high") * 100
    title = f"Percent a week that change, with 90 % range ({found.definition}, {found.from_on} to {found.to_on})"
    show(rows.with_columns(percent), title=title)
    sentences(
        [
            f"{name.replace('_', ' ')}: {each['value']:.1f} ({each['low']:.1f} to {each['high']:.1f})"
            for name, each in answer["multipliers"].items()
        ]
    )


def add_to(app: typer.Typer) -> None:
    """Give the app these commands."""
    app.command("calibrate", epilog="Example: enforcement calibrate --history patching.csv --out mine.toml")(
        calibrate_command
    )
    app.command("backtest", epilog="Example: enforcement backtest --history patching.csv --cut 2024-01-30")(
        backtest_command
    )
    app.command("rollout", epilog="Example: enforcement rollout ninety-days gentler --days 180 --out data/rollout")(
        rollout_command
    )
