"""How good forecasts have been, in words and tables."""

from typing import Final

import polars as pl

from enforcement.backtested import Backtested
from enforcement.pieces import Figure, Piece, figures, listed, pairs, plural, said, table, together

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
        *("servers", "tenants", "events"),
        pl.col("cover_90", "cover_50").round(0),
        error="crps",
        bias="bias",
        last_value="crps_last_value",
        constant_rate="crps_constant_rate",
    ).with_columns(
        pl.col(name).map_elements("{:.1f}".format, return_dtype=pl.String)
        for name in ("error", "bias", "last_value", "constant_rate")
    )
    name = "by_cut_without_largest" if without_largest else "by_cut"
    note = "cover in % of the weeks; errors in points of share; a single cut proves nothing"
    return table(shown, name=name, whole=scores, rows=shown.height, note=note)


def left_out(tested: Backtested) -> Piece:
    """Say which days were not forecast from, and why."""
    if not tested.left_out:
        return said("No day was left out.")
    return listed([said("Left out: {why}.", why=why) for why in tested.left_out])


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
