"""CSV that a spreadsheet shows and never runs."""

from typing import Final

import polars as pl

# What spreadsheets take for the start of a formula, in their full width too, as some do in East Asia.
_RUNS: Final = r"^[=+\-@\t\r\n\x{ff1d}\x{ff0b}\x{ff0d}\x{ff20}]"


def safe_csv(frame: pl.DataFrame) -> str:
    r"""Write a frame as CSV; a text that a spreadsheet would run gets a quote in front.

    >>> safe_csv(pl.DataFrame({"server": ["mx.example", "=1+1"], "messages": [1, -2]}))
    "server,messages\nmx.example,1\n'=1+1,-2\n"
    """
    text = pl.selectors.string()
    runs = text.str.contains(_RUNS)
    return frame.with_columns(pl.when(runs).then(pl.lit("'") + text).otherwise(text).name.keep()).write_csv()
