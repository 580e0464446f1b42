"""A replay as Parquet files: who is hit, how much, in which stage, and when."""

from pathlib import Path
from typing import Final

import polars as pl

from enforcement.replay import Replay

FILES: Final = ("by_day", "by_stage", "by_group", "delays", "tenants", "servers", "server_stages", "entries")


def write_tables(result: Replay, folder: Path) -> list[Path]:
    """Write the tables of a replay into a folder of the policy's name; files that were there are replaced."""
    place = folder / result.policy.name
    place.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in FILES:
        table: pl.DataFrame = getattr(result, name)
        unfinished, path = place / f".{name}.parquet", place / f"{name}.parquet"
        table.write_parquet(unfinished)
        unfinished.replace(path)
        paths.append(path)
    return paths
