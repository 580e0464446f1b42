"""Where histories of patching come from: a table of one's own, or the sightings of the store."""

from datetime import date
from pathlib import Path
from typing import Final

import polars as pl

from enforcement import shipped
from enforcement.builds import Hop
from enforcement.patching import Histories, histories, read_patch_history
from enforcement.schema import PATCH_HISTORY, conform
from enforcement.store import open_store

_LARGEST_TABLE: Final = 500_000_000  # bytes

# A row a week: its sightings are taken as spread evenly.
_SIGHTED: Final = """
select server, tenant, build, min(day)::timestamp as first_seen_at, max(day)::timestamp as last_seen_at,
    count(distinct day) as messages
from sightings where hop = 'smtp' and build is not null
group by server, tenant, build, floor(date_diff('day', date '1970-01-01', day) / 7) order by all
"""


def patch_histories(*, store: Path, table: Path | None, to_on: date | None = None) -> Histories:
    """Read a table of patching (CSV), or what smtp hops in the store show, up to a day."""
    if table is None:
        with open_store(store) as opened:
            rows = opened.query(_SIGHTED)
    else:
        size = table.stat().st_size
        if size > _LARGEST_TABLE:
            raise ValueError(f"{table.name}: {size:,} bytes (expected at most {_LARGEST_TABLE:,})")
        try:
            text = table.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{table.name}: not UTF-8 text: {error.reason} at byte {error.start:,}") from None
        rows = read_patch_history(text, source=table.name)
    found = histories(conform(rows, PATCH_HISTORY, what="sightings"), shipped.load_catalogue(), hop=Hop.SMTP)
    return found if to_on is None else found.known_on(_end_of(to_on))


def _end_of(day: date) -> float:
    return float(pl.Series([day]).to_physical().item() + 1) - 1e-6
