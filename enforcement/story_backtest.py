"""How good forecasts have been, in words and tables."""

from typing import Final

import polars as pl

from enforcement.backtest import FEWEST_EVENTS, FEWEST_SERVERS
from enforcement.backtested import Backtested
from enforcement.hazards import PRIOR_EVENTS, PRIOR_RATE
from enforcement.patch_forecast import (
    FEWEST_LANDINGS,
    IN_SIGHT_WEEKS,
    LANDINGS_FROM_WEEKS,
    MULTIPLIERS_FROM,
    PATIENCE_CORRELATION,
    RATES_FROM_WEEKS,
    VULNERABLE_AFTER_DAYS,
)
from enforcement.pieces import Figure, Piece, figures, listed, pairs, plural, said, table, together
from enforcement.posterior import PRIOR_MEDIANS, PRIOR_SD, SHAPES
from enforcement.schema import day_from_number

BEFORE: Final = "in points of share, 0 is perfect"
_FEW_TENANTS: Final = 5
_METHODS: Final = {
    "crps": "this model",
    "crps_last_value": "each server stays as it is",
    "crps_constant_rate": "one constant rate",
}


def answer(tested: Backtested) -> Piece:
    """Say how far the bands can be trusted, and how much the model knows beyond naive forecasts."""
    if not tested.scores.height:
        piece = said(
            "Nothing is known yet of how good forecasts are here: {why}. The history has {servers} of {tenants}; "
            "a longer one can be given as a table (parameter history).",
            why=tested.why_none,
            servers=plural(tested.n_servers, "server"),
            tenants=plural(tested.n_tenants, "tenant"),
        )
        return Piece(piece.html.replace("<p>", '<p class="answer">', 1), piece.text)
    all_ = _pooled(tested.scores)
    better = min(all_["crps_last_value"], all_["crps_constant_rate"])
    piece = said(
        "From {cuts} in the past, 90 % bands held {b_cover} of the weeks that came, 50 % bands {half}. The error was "
        "{b_ratio} of that of the better naive forecast.",
        cuts=plural(tested.scores.height - 1, "day"),
        b_cover=f"{all_['cover_90']:.0f} %",
        half=f"{all_['cover_50']:.0f} %",
        b_ratio=f"{100 * all_['crps'] / better:.0f} %" if better else "no share",
    )
    return Piece(piece.html.replace("<p>", '<p class="answer">', 1), piece.text)


def five_figures(tested: Backtested) -> Piece:
    """Give what is judged: cover of both bands, the error, the bias, and how much stands behind it."""
    if not tested.scores.height:
        return said("No figures without a forecast.")
    all_ = _pooled(tested.scores)
    naive = min(all_["crps_last_value"], all_["crps_constant_rate"])
    few = all_["effective_tenants"] < _FEW_TENANTS
    return figures(
        [
            Figure(what="weeks in the 90 % band", value=f"{all_['cover_90']:.0f} %", of="90 % or a bit more is right"),
            Figure(what="weeks in the 50 % band", value=f"{all_['cover_50']:.0f} %", of="50 % or a bit more is right"),
            Figure(what="error (CRPS)", value=f"{all_['crps']:.1f}", of=BEFORE, difference=f"naive: {naive:.1f}"),
            Figure(what="bias", value=f"{all_['bias']:+.1f}", of="points: above 0, forecasts saw too much vulnerable"),
            Figure(
                what="tenants that count",
                value=f"{all_['effective_tenants']:.1f}",
                of="effective number a cut: servers of one tenant are patched together" + ("; thin" if few else ""),
                difference=f"effective servers: {all_['effective_servers']:.0f} of {all_['servers']:,}, "
                f"events: {all_['effective_events']:.0f} of {all_['events']:,}",
            ),
        ]
    )  # fmt: skip


def by_cut(tested: Backtested, *, without_largest: bool = False) -> Piece:
    """List the scores by cut; cuts a quarter apart share weeks, and none should be judged alone."""
    scores = tested.without_largest if without_largest else tested.scores
    if not scores.height:
        return said("Too little is left to score." if tested.scores.height else "Nothing to list.")
    shown = scores.select(
        pl.col("cut").cast(pl.String).fill_null("all"),
        *("servers", "tenants"),
        effective_tenants="effective_tenants",
        events="events",
        cover_90=pl.col("cover_90").round(0),
        cover_50=pl.col("cover_50").round(0),
        error="crps",
        bias="bias",
        width="width_90",
        last_value="crps_last_value",
        constant_rate="crps_constant_rate",
    ).with_columns(
        pl.col(name).map_elements("{:.1f}".format, return_dtype=pl.String)
        for name in ("effective_tenants", "error", "bias", "width", "last_value", "constant_rate")
    )
    name = "by_cut_without_largest" if without_largest else "by_cut"
    note = (
        "cover in % of the weeks; errors and width of the 90 % band in points of share; a single cut proves nothing; "
        "all: counts are means a cut (cuts share weeks, servers and events), the rest means a week"
    )
    return table(shown, name=name, whole=scores, rows=shown.height, note=note)


def left_out(tested: Backtested) -> Piece:
    """Say which days were not forecast from, and why."""
    if not tested.left_out:
        return said("No day was left out.")
    return listed([said("Left out: {why}.", why=why) for why in tested.left_out])


def assumed() -> Piece:
    """List what forecasts and scores rest on that no history says: guesses first, each marked, then what was chosen.

    >>> assumed().text.splitlines()[1]
    '- Guess: patience within a tenant is correlated by 0.5.'
    """
    sibling = said(
        "What is tested is a sibling of the rollout: it has the same cells, multipliers, patience and landings, but "
        "goes by weeks and by changes as seen, has no policy and no retirement, and draws rates and multipliers from "
        "their joint posterior, not from an assumptions file."
    )
    shapes = zip(SHAPES, PRIOR_MEDIANS, strict=True)
    guesses = [
        said("Guess: patience within a tenant is correlated by {b_rho}.", b_rho=f"{PATIENCE_CORRELATION:g}"),
        said(
            "Guess: before anything is seen a rate has {events} events at {b_rate} a week.",
            events=f"{PRIOR_EVENTS:g}",
            b_rate=f"{100 * PRIOR_RATE:g} %",
        ),
        *(
            said(
                "Guess: before anything is seen the shape of the multipliers by {name} is log-normal, median "
                "{b_median}, standard deviation of the logarithm {sd}.",
                name=name.replace("_", " "),
                b_median=f"{median:g}",
                sd=f"{PRIOR_SD:g}",
            )
            for name, median in shapes
        ),
    ]
    chosen = [
        said(
            "Chosen: vulnerable is who misses an update for {b_days} days, as in the policy ninety-days, or is out of "
            "support; in sight is who was seen in the last {sight} weeks.",
            b_days=f"{VULNERABLE_AFTER_DAYS:g}",
            sight=IN_SIGHT_WEEKS,
        ),
        said(
            "Chosen with public mailing lists in view: rates and updates are counted over {rates} weeks, landings over "
            "{landings}, multipliers since {since}.",
            rates=RATES_FROM_WEEKS,
            landings=LANDINGS_FROM_WEEKS,
            since=day_from_number(int(MULTIPLIERS_FROM)),
        ),
        said(
            "Chosen: too little to learn from is below {events} changes, to score below {servers} servers in a week, "
            "to draw landings from below {pool}.",
            events=FEWEST_EVENTS,
            servers=FEWEST_SERVERS,
            pool=FEWEST_LANDINGS,
        ),
    ]
    return together([sibling, listed([*guesses, *chosen])])


def about(tested: Backtested) -> Piece:
    """Say what history was tested."""
    shown = {
        "history": tested.source,
        "servers": f"{tested.n_servers:,} of {plural(tested.n_tenants, 'tenant')}",
        "counted": "sightings of a server's own build in mail (smtp hops)",
    }
    return together([pairs(shown)], kind="data")


def errors(tested: Backtested) -> pl.DataFrame:
    """Give the error of each forecast from each cut: on, when, method, error, label."""
    rows = tested.scores.filter(pl.col("cut").is_not_null()).sort("cut")
    long = rows.select("cut", *_METHODS).unpivot(index="cut", variable_name="method", value_name="error")
    last = pl.col("on") == pl.col("on").max()
    named = pl.col("method").replace_strict(_METHODS, return_dtype=pl.String)
    return long.select(on="cut", when=pl.col("cut").cast(pl.String), method=named, error="error").with_columns(
        label=pl.when(last).then("method").otherwise(pl.lit(""))
    )


def covers(tested: Backtested) -> pl.DataFrame:
    """Give the share of weeks that each band held, by cut: on, when, band, held (0 to 1), should (what is right)."""
    rows = tested.scores.filter(pl.col("cut").is_not_null()).sort("cut")
    parts = [
        rows.select(
            on="cut",
            when=pl.col("cut").cast(pl.String),
            band=pl.lit(f"{percent} % band"),
            held=pl.col(f"cover_{percent}") / 100,
            should=pl.lit(percent / 100),
        )
        for percent in (90, 50)
    ]
    return pl.concat(parts)


def _pooled(scores: pl.DataFrame) -> dict[str, float]:
    return scores.row(-1, named=True)
