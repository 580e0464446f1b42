"""Which columns of a table are read, and what is said of a header that does not fit."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from enforcement.names import shown

REQUIRED: Final = ("sent_at", "server", "build")
OPTIONAL: Final = ("tenant", "hop", "route", "messages")
COLUMNS: Final = (*REQUIRED, *OPTIONAL)

_SHOWN_COLUMNS: Final = 12


def chosen(header: Sequence[str], path: Path) -> tuple[dict[str, int], tuple[str, ...]]:
    """Find the columns by name, whatever their case, and note those that are not read.

    >>> chosen(["Server", "x", "sent_at", "build"], Path("traffic.csv"))
    ({'sent_at': 2, 'server': 0, 'build': 3}, ('traffic.csv: columns not read: x',))
    """
    names = [name.strip().lower() for name in header]
    found = _listed(header)
    for name in COLUMNS:
        if names.count(name) > 1:
            raise ValueError(f"{path}: {names.count(name)} columns {name!r} (found: {found})")
    for name in REQUIRED:
        if name not in names:
            nearest = difflib.get_close_matches(name, set(names) - set(COLUMNS), n=1)
            hint = f"; is it {shown(nearest[0])}?" if nearest else ""
            expected = f"{', '.join(REQUIRED)}[, {', '.join(OPTIONAL)}]"
            raise ValueError(f"{path}: no column {name!r} (found: {found}; expected: {expected}{hint})")
    unread = [name for name in header if name.strip().lower() not in COLUMNS]
    notes = (f"{path.name}: columns not read: {_listed(unread)}",) if unread else ()
    return {name: names.index(name) for name in COLUMNS if name in names}, notes


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN_COLUMNS} more" if len(names) > _SHOWN_COLUMNS else ""
    return ", ".join(shown(name)[1:-1] for name in names[:_SHOWN_COLUMNS]) + more
