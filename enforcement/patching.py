"""How servers were patched: from sightings of builds to spells of one first missing update."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Final, NamedTuple

import numpy as np
import polars as pl

from enforcement.builds import Build, Evidence, Hop
from enforcement.catalogue import Catalogue
from enforcement.chance import Bools, Floats, Ints
from enforcement.names import server_name, shown, tenant_name
from enforcement.schema import PATCH_HISTORY, conform, day_number

NEVER: Final = np.inf
WEEK: Final = 7.0  # days
_MOST_IMPUTED: Final = 1_000  # sightings of a row
_MOST_MESSAGES: Final = 10**12
_FIRST_YEAR: Final = 1970
_LAST_YEAR: Final = 2999


class Key(NamedTuple):
    """What a build proves: product, days of the first missing update and of no support any more (or NEVER)."""

    product: str
    missing: float
    unsupported: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Histories:
    """Spells, one of a first missing update at a server each, in order of server and time; and the sightings in them.

    Times are days since 1970. A spell lasts from its first sighting until `end`, the first sighting of the next one
    (NEVER: there is none yet); `last` is its last sighting. `tenant` has one number a server. `updates`: days of the
    security updates that servers can be seen to miss, rising.
    """

    servers: tuple[str, ...]
    tenants: tuple[str, ...]
    tenant: Ints
    server: Ints
    product: Ints
    missing: Floats
    unsupported: Floats
    first: Floats
    last: Floats
    end: Floats
    seen_spell: Ints
    seen_at: Floats
    updates: Floats

    def without_tenant(self, number: int) -> "Histories":
        """Give the spells of all other tenants."""
        kept = self.tenant[self.server] != number
        return _of(self, kept, self.end[kept])

    def known_on(self, day: float) -> "Histories":
        """Give what was known on a day: later sightings are cut off, and the last spell is open."""
        is_past = self.seen_at <= day
        kept = self.first <= day
        cut = replace(self, seen_spell=self.seen_spell[is_past], seen_at=self.seen_at[is_past])
        last = np.full(len(self.server), -NEVER)
        np.maximum.at(last, cut.seen_spell, cut.seen_at)
        last = np.maximum(self.first, np.minimum(last, self.end))
        cut = replace(cut, last=last, updates=self.updates[self.updates <= day])
        return _of(cut, kept, np.where(self.end <= day, self.end, NEVER)[kept])

    @property
    def largest_tenant(self) -> int:
        """The number of the tenant with most servers."""
        return int(np.bincount(self.tenant[np.unique(self.server)], minlength=1).argmax())


def of_spells(*spells: Sequence[float], updates: Sequence[float] = ()) -> Histories:
    """Make histories from spells of servers, each of its own tenant, in order: server, missing, unsupported, seen days.

    >>> known = of_spells((0, 10, NEVER, 5, 20), (0, NEVER, NEVER, 31))
    >>> known.first.tolist(), known.last.tolist(), known.end.tolist()
    ([5.0, 31.0], [20.0, 31.0], [31.0, inf])
    """
    server = np.array([int(spell[0]) for spell in spells], dtype=np.int64)
    first = np.array([spell[3] for spell in spells], dtype=np.float64)
    n = int(server.max(initial=-1)) + 1
    is_followed = np.append(server[1:] == server[:-1], np.False_)[: len(server)]
    unsupported = np.array([spell[2] for spell in spells], dtype=np.float64)
    return Histories(
        servers=tuple(f"s{number}" for number in range(n)),
        tenants=tuple(f"t{number}" for number in range(n)),
        tenant=np.arange(n),
        server=server,
        product=(unsupported < NEVER).astype(np.int64),
        missing=np.array([spell[1] for spell in spells], dtype=np.float64),
        unsupported=unsupported,
        first=first,
        last=np.array([spell[-1] for spell in spells], dtype=np.float64),
        end=np.where(is_followed, np.append(first[1:], NEVER)[: len(server)], NEVER),
        seen_spell=np.array([k for k, spell in enumerate(spells) for _ in spell[3:]], dtype=np.int64),
        seen_at=np.array([day for spell in spells for day in spell[3:]], dtype=np.float64),
        updates=np.array(updates, dtype=np.float64),
    )


def histories(rows: pl.DataFrame, catalogue: Catalogue, *, hop: Hop = Hop.SMTP) -> Histories:
    r"""Order PATCH_HISTORY into spells.

    A server stands at the highest build seen so far: a name can hide several machines, and a lower build later is
    dropped. Builds that miss the same update first are one spell; the change between them is no event. Between the two
    dates of a row its messages are taken as spread evenly. Builds that the catalogue does not know are left out.

    >>> from enforcement.catalogue import read_catalogue
    >>> catalogue = read_catalogue(
    ...     builds="product,name,line,kind,released_on,build,kb,is_security,is_public,shown_by_smtp_hop\n"
    ...     "Exchange Server 2016,CU23,CU23,CU,2022-04-20,15.1.2507.6,,false,true,true\n"
    ...     "Exchange Server 2016,CU23 May22SU,CU23,SU,2022-05-10,15.1.2507.9,,true,true,true\n",
    ...     lifecycle="product,extended_end\nExchange Server 2016,2025-10-14\n",
    ...     exploits="cve,date_added\n",
    ... )
    >>> text = "server,tenant,build,first_seen_at,last_seen_at,messages\n"
    >>> text += "a,t,15.1.2507.6,2022-05-01,2022-05-20,3\na,t,15.1.2507.9,2022-06-01,2022-06-01,1\n"
    >>> known = histories(read_patch_history(text, source="h.csv"), catalogue)
    >>> known.missing.tolist(), known.end.tolist()
    ([19122.0, inf], [19144.0, inf])
    """
    rows = conform(rows, PATCH_HISTORY, what="patch history")
    keys = {text: _key(text, catalogue, hop) for text in rows["build"].drop_nulls().unique().to_list()}
    tenant_of: dict[str, str] = {}
    of_server: dict[str, list[tuple[float, float, Build, Key, int]]] = {}
    at = pl.col("first_seen_at", "last_seen_at").cast(pl.Datetime("us")).dt.epoch("us") / 86_400e6
    for server, tenant, text, first, last, messages in rows.with_columns(at).iter_rows():
        key = keys.get(text)
        if key is not None:
            tenant_of.setdefault(server, tenant)
            of_server.setdefault(server, []).append((first, last, Build.parse(text), key, messages))
    servers, tenants = sorted(of_server), sorted(set(tenant_of.values()))
    number_of = {tenant: number for number, tenant in enumerate(tenants)}
    spells: list[tuple[int, Key, float, float, float]] = []
    seen: list[tuple[int, Floats]] = []
    for number, server in enumerate(servers):
        spells_of_server = _spells(sorted(of_server[server]))
        for place, (key, rows_of_spell) in enumerate(spells_of_server):
            is_last = place + 1 == len(spells_of_server)
            end = NEVER if is_last else spells_of_server[place + 1][1][0][0]
            seen.extend((len(spells), _sightings(*row)) for row in rows_of_spell)
            last = min(end, max(row[1] for row in rows_of_spell))
            spells.append((number, key, rows_of_spell[0][0], last, end))
    products = sorted({key.product for _, key, *_ in spells})
    order = [np.full(len(at), spell, dtype=np.int64) for spell, at in seen]
    return Histories(
        servers=tuple(servers),
        tenants=tuple(tenants),
        tenant=np.array([number_of[tenant_of[server]] for server in servers], dtype=np.int64),
        server=np.array([number for number, *_ in spells], dtype=np.int64),
        product=np.array([products.index(key.product) for _, key, *_ in spells], dtype=np.int64),
        missing=np.array([key.missing for _, key, *_ in spells], dtype=np.float64),
        unsupported=np.array([key.unsupported for _, key, *_ in spells], dtype=np.float64),
        first=np.array([first for _, _, first, _, _ in spells], dtype=np.float64),
        last=np.array([last for *_, last, _ in spells], dtype=np.float64),
        end=np.array([end for *_, end in spells], dtype=np.float64),
        seen_spell=np.concatenate(order) if order else np.zeros(0, dtype=np.int64),
        seen_at=np.concatenate([at for _, at in seen]) if seen else np.zeros(0),
        updates=visible_updates(catalogue, hop),
    )


def visible_updates(catalogue: Catalogue, hop: Hop) -> Floats:
    """Give the days of public security updates that a hop of this kind shows, rising.

    >>> from types import SimpleNamespace
    >>> visible_updates(SimpleNamespace(releases=()), Hop.SMTP).tolist()
    []
    """
    days = {
        day_number(release.released_on)
        for release in catalogue.releases
        if release.is_security and release.is_public and release.shows_on(hop)
    }
    return np.array(sorted(days), dtype=np.float64)


def is_vulnerable(missing: Floats, unsupported: Floats, at: Floats | float, *, after_days: float) -> Bools:
    """Whether an update has been missing for so many days, or support has ended.

    >>> is_vulnerable(np.array([0.0, 0.0, NEVER]), np.array([NEVER, 5.0, NEVER]), 80.0, after_days=90).tolist()
    [False, True, False]
    """
    return (at >= missing + after_days) | (at >= unsupported)


def _key(text: str, catalogue: Catalogue, hop: Hop) -> Key | None:
    placed = catalogue.place(Build.parse(text))
    if placed.product is None or placed.evidence is Evidence.CLOUD:
        return None
    dates = catalogue.dates(placed, hop)
    return Key(placed.product, _days(dates.missing_since), _days(dates.unsupported_since))


def _days(day: date | None) -> float:
    return NEVER if day is None else float(day_number(day))


Row = tuple[float, float, int]


def _spells(rows: Iterable[tuple[float, float, Build, Key, int]]) -> list[tuple[Key, list[Row]]]:
    """Give the spells of a server from its rows in order of time: the key, and first, last, messages of each row."""
    spells: list[tuple[Key, list[Row]]] = []
    highest: Build | None = None
    for first, last, build, key, messages in rows:
        if highest is not None and build < highest:
            continue
        highest = build
        if not spells or spells[-1][0] != key:
            spells.append((key, []))
        spells[-1][1].append((first, last, messages))
    return spells


def _sightings(first: float, last: float, messages: int) -> Floats:
    return np.linspace(first, last, min(max(messages, 2), _MOST_IMPUTED)) if last > first else np.array([first])


def _of(all_: Histories, kept: Bools, end: Floats) -> Histories:
    """Keep some spells."""
    place = np.cumsum(kept) - 1
    is_in = kept[all_.seen_spell]
    return replace(
        all_,
        server=all_.server[kept],
        product=all_.product[kept],
        missing=all_.missing[kept],
        unsupported=all_.unsupported[kept],
        first=all_.first[kept],
        last=all_.last[kept],
        end=end,
        seen_spell=place[all_.seen_spell[is_in]],
        seen_at=all_.seen_at[is_in],
    )


def read_patch_history(text: str, *, source: str) -> pl.DataFrame:
    r"""Read CSV server,tenant,build,first_seen_at,last_seen_at,messages as PATCH_HISTORY; errors name file and line.

    >>> text = "server,tenant,build,first_seen_at,last_seen_at,messages\n"
    >>> read_patch_history(text + "a.t.example,t.example,15.1.1.1,2026-01-02,2026-01-01,1\n", source="h.csv")
    Traceback (most recent call last):
    ValueError: h.csv, line 2: last_seen_at 2026-01-01 is before first_seen_at 2026-01-02
    """
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")), strict=True)
    rows: list[tuple[object, ...]] = []
    try:
        _expect_columns(reader.fieldnames or ())
        rows.extend(_history_row(row) for row in reader)
    except (csv.Error, ValueError) as error:
        raise ValueError(f"{source}, line {max(reader.line_num, 1)}: {error}") from None
    return pl.DataFrame(rows, schema=PATCH_HISTORY, orient="row")


def _expect_columns(found: Sequence[str]) -> None:
    if not set(PATCH_HISTORY) <= set(found):
        raise ValueError(f"expected the columns {','.join(PATCH_HISTORY)}, found {shown(','.join(found))}")


def _history_row(row: dict[str, str]) -> tuple[object, ...]:
    if None in row or None in row.values():
        raise ValueError("expected one value for each column")
    first, last = (_time(row[name], name) for name in ("first_seen_at", "last_seen_at"))
    if last < first:
        raise ValueError(f"last_seen_at {row['last_seen_at']} is before first_seen_at {row['first_seen_at']}")
    count = row["messages"].strip()
    if not (count.isascii() and count.isdigit() and 1 <= int(count[:12]) <= _MOST_MESSAGES):
        raise ValueError(f"messages = {shown(count)}: expected a whole number from 1 to {_MOST_MESSAGES:,}")
    build = str(Build.parse(row["build"].strip()))
    return server_name(row["server"]), tenant_name(row["tenant"]), build, first, last, int(count)


def _time(text: str, name: str) -> datetime:
    try:
        at = datetime.fromisoformat(text.strip())
        at = at.astimezone(UTC).replace(tzinfo=None) if at.tzinfo else at
    except (ValueError, OverflowError):
        raise ValueError(f"{name} = {shown(text)}: expected a time, e.g. 2026-03-01T08:00:00Z") from None
    if not _FIRST_YEAR <= at.year <= _LAST_YEAR:
        raise ValueError(f"{name} = {shown(text)}: expected a year from {_FIRST_YEAR} to {_LAST_YEAR}")
    return at
