"""A replay as Parquet files: who is hit, how much, in which stage, and when."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import polars as pl

from enforcement.replay import Replay

FILES: Final = ("by_day", "by_stage", "by_group", "delays", "tenants", "servers", "server_stages", "entries")


def write_tables(results: Sequence[Replay], folder: Path) -> None:
    """Write the tables of replays, each into a folder of its policy's name; files that were there are replaced."""
    names = [result.policy.name for result in results]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{names.count(name)} policies are named {name!r} (expected a name of its own for each)")
    for result in results:
        _write(result, folder)


def _write(result: Replay, folder: Path) -> None:
    place = folder / result.policy.name
    place.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        table: pl.DataFrame = getattr(result, name)
        unfinished, path = place / f".{name}.parquet", place / f"{name}.parquet"
        table.write_parquet(unfinished)
        unfinished.replace(path)
