"""The ids of servers and builds in a store: those that are there, and new ones as they come."""

from collections.abc import Callable, Iterable
from typing import Final

import duckdb
import numpy as np
import numpy.typing as npt
import polars as pl

from enforcement.builds import Build, Hop
from enforcement.importers.batch import names_and_places
from enforcement.names import is_single_label, minute_offset, server_name, shown, tenant_name, tenant_of
from enforcement.schema import BUILDS, SERVERS, conform
from enforcement.store_connection import StoreError, registered

_FEW: Final = 4_000_000

Places = npt.NDArray[np.int64]


class Names:
    """Gives each distinct name its id once, however many rows have it."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        servers = conform(connection.sql("from raw.servers").pl(), SERVERS, what="servers")
        builds = conform(connection.sql("from raw.builds").pl(), BUILDS, what="builds")
        self._servers: dict[str, int] = dict(servers.select("server", "server_id").rows())
        self._builds = {(build, hop): build_id for build_id, build, hop in builds.rows()}
        self._tenants: dict[int, str] = dict(servers.select("server_id", "tenant").rows())  # those that are settled
        self._said: dict[tuple[int, str], None] = {}  # server and tenant, as the source says, the first first
        self._new_servers: list[tuple[int, str]] = []
        self._new_builds: list[tuple[int, str | None, str]] = []
        self.alone: list[str] = []  # new servers named without a domain, whose tenant nobody said
        self._next_server = _following(self._servers.values())
        self._next_build = _following(self._builds.values())

    def server_ids(self, servers: pl.Series, tenants: pl.Series) -> Places:
        """Give the ids of a column of servers, with the tenants that the source says they have."""
        names, places = names_and_places(servers)
        used = _used(places, len(names))
        new = sorted(names[place] for place in used if names[place] not in self._servers)
        _expect_normal(new, server_name, what="server")
        for name in new:
            self._servers[name] = self._next_server
            self._new_servers.append((self._next_server, name))
            self._next_server += 1
        ids = np.zeros(len(names), dtype=np.int64)
        ids[used] = [self._servers[names[place]] for place in used]
        if tenants.null_count() < len(tenants):
            self._hear(ids, places, tenants)
        return ids[places]

    def _hear(self, ids: Places, places: Places, tenants: pl.Series) -> None:
        """Keep which tenants servers came with."""
        said, said_places = names_and_places(tenants)
        pairs = pl.Series(np.where(said_places < 0, -1, places * len(said) + said_places))
        for pair in pairs.filter(pairs >= 0).unique(maintain_order=True).to_list():
            place, said_place = divmod(pair, len(said))
            self._said[int(ids[place]), said[said_place]] = None

    def build_ids(self, builds: pl.Series, hops: pl.Series) -> Places:
        """Give the ids of two columns: builds, null where the source did not say, and the kinds of hops they show."""
        names, places = names_and_places(builds)
        hop_names, hop_places = names_and_places(hops)
        pairs = (places + 1) * len(hop_names) + hop_places  # null is the first
        n_pairs = (len(names) + 1) * len(hop_names)
        used = _used(pairs, n_pairs)
        pair_names = [(None if pair < len(hop_names) else names[pair // len(hop_names) - 1]) for pair in used]
        keys = [(name, hop_names[pair % len(hop_names)]) for name, pair in zip(pair_names, used, strict=True)]
        new = sorted((key for key in keys if key not in self._builds), key=_nulls_first)
        _expect_normal({name for name, _ in new if name is not None}, lambda text: str(Build.parse(text)), what="build")
        for name, hop in new:
            if hop not in tuple(Hop):
                raise StoreError(f"nothing was changed: not a kind of hop: {shown(hop)} (expected {', '.join(Hop)})")
            self._builds[name, hop] = self._next_build
            self._new_builds.append((self._next_build, name, hop))
            self._next_build += 1
        ids = np.zeros(n_pairs, dtype=np.int64)
        ids[used] = [self._builds[key] for key in keys]
        return ids[pairs]

    def is_cloud(self) -> npt.NDArray[np.bool_]:
        """Tell which builds are Exchange Online itself, by build_id."""
        cloud = np.zeros(self._next_build, dtype=bool)
        cloud[[i for (name, _), i in self._builds.items() if name is not None and Build.parse(name).is_cloud]] = True
        return cloud

    def offsets(self) -> npt.NDArray[np.uint8]:
        """Give the minute at which each server's own hour begins, by server_id."""
        offsets = np.zeros(self._next_server, dtype=np.uint8)
        offsets[list(self._servers.values())] = [minute_offset(name) for name in self._servers]
        return offsets

    def write(self, connection: duckdb.DuckDBPyConnection) -> int:
        """Store what is new; return how many servers came with another tenant than they have."""
        _expect_normal({tenant for _, tenant in self._said}, tenant_name, what="tenant")
        first_said: dict[int, str] = {}
        for server_id, tenant in self._said:
            first_said.setdefault(server_id, tenant)
        rows = [(i, name, first_said.get(i) or tenant_of(name), minute_offset(name)) for i, name in self._new_servers]
        self._tenants.update((i, tenant) for i, _, tenant, _ in rows)
        self.alone = [name for i, name in self._new_servers if i not in first_said and is_single_label(name)]
        servers = pl.DataFrame(rows, schema=dict(SERVERS), orient="row")
        builds = pl.DataFrame(self._new_builds, schema=dict(BUILDS), orient="row")
        with registered(connection, new_servers=servers.to_arrow(), new_builds=builds.to_arrow()):
            connection.execute("insert into raw.servers from new_servers")
            connection.execute("insert into raw.builds from new_builds")
        return len({i for i, tenant in self._said if self._tenants[i] != tenant})


def _used(places: Places, n: int) -> Places:
    """List the places that occur, in rising order."""
    if n <= max(_FEW, len(places)):
        seen = np.zeros(n, dtype=bool)
        seen[places] = True
        return np.flatnonzero(seen)
    return pl.Series(places).unique().sort().to_numpy()


def _nulls_first(key: tuple[str | None, str]) -> tuple[bool, str, str]:
    return (key[0] is not None, key[0] or "", key[1])


def _following(ids: Iterable[int]) -> int:
    return max(ids, default=0) + 1


def _expect_normal(values: Iterable[str], read: Callable[[str], str], *, what: str) -> None:
    """Hold an importer to the one spelling of names, without which one server would be two."""
    for value in values:
        if read(value) != value:
            raise ValueError(f"{what} {shown(value)} is not in its one spelling {shown(read(value))}")
