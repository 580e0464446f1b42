"""What a store keeps beside mail: clocks that another system started, and decisions that targets logged."""

from collections.abc import Callable
from typing import Final

import duckdb
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from enforcement.builds import Hop
from enforcement.store_connection import registered
from enforcement.store_names import Names

_INSERT_STARTED: Final = "insert into raw.clock_starts select *, $import_id from coded"
_INSERT_DECISIONS: Final = "insert into raw.decisions select *, $import_id from coded"
_COUNT: Final = """
select (select count(*) from raw.clock_starts where import_id = $import_id)
     + (select count(*) from raw.decisions where import_id = $import_id)
"""
_SHARED: Final = """
with keyed as (
    select import_id, hash(decided_at, server_id, build_id, verdict, reason, stage, policy_serial) as decision
    from raw.decisions
), mine as (select decision from keyed where import_id = $import_id),
    theirs as (select * from keyed where import_id <> $import_id)
select (select count(*) from mine semi join theirs using (decision)),
    (select list(distinct import_id order by import_id) from theirs semi join mine using (decision))
"""


def take_started(connection: duckdb.DuckDBPyConnection, started: pl.DataFrame, names: Names, import_id: int) -> None:
    """Store clock starts (schema.STARTED)."""
    if started.is_empty():
        return
    coded = pa.table(
        {
            "server_id": names.server_ids(started["server"], started["tenant"]),
            "build_id": names.build_ids(started["build"], started["hop"]),
            "first_detected_on": started["first_detected_on"].to_arrow(),
        }
    )
    with registered(connection, coded=coded):
        connection.execute(_INSERT_STARTED, {"import_id": import_id})


def take_decisions(
    connection: duckdb.DuckDBPyConnection, decisions: pl.DataFrame, names: Names, import_id: int
) -> None:
    """Store decisions (schema.DECISIONS); their builds are as smtp hops show them."""
    if decisions.is_empty():
        return
    coded = pa.table(
        {
            "decided_at": decisions["decided_at"].to_arrow(),
            "server_id": _ids(decisions["server"], lambda known: names.server_ids(known, _nothing(known))),
            "build_id": _ids(decisions["build"], lambda known: names.build_ids(known, _smtp(known))),
            **{name: decisions[name].to_arrow() for name in ("verdict", "reason", "stage", "policy_serial")},
        }
    )
    with registered(connection, coded=coded):
        connection.execute(_INSERT_DECISIONS, {"import_id": import_id})


def logged_rows(connection: duckdb.DuckDBPyConnection, import_id: int) -> int:
    """Count the rows of an import that are no mail."""
    ((found,),) = connection.execute(_COUNT, {"import_id": import_id}).fetchall()
    return int(found)


def shared_decisions(connection: duckdb.DuckDBPyConnection, import_id: int) -> tuple[int, list[int]]:
    """Count the decisions of an import that others tell too, to the second, and name those: a log that has grown."""
    ((found, import_ids),) = connection.execute(_SHARED, {"import_id": import_id}).fetchall()
    return int(found), import_ids or []


def _ids(given: pl.Series, ids_of: Callable[[pl.Series], npt.NDArray[np.int64]]) -> pa.Array:
    """Give the ids of the names that are known, null for the others."""
    is_known = given.is_not_null()
    ids = np.zeros(len(given), dtype=np.int64)
    known = given.filter(is_known)
    if len(known):
        ids[is_known.to_numpy()] = ids_of(known)
    return pa.array(ids, mask=~is_known.to_numpy())


def _nothing(known: pl.Series) -> pl.Series:
    return pl.repeat(None, len(known), dtype=pl.String, eager=True)


def _smtp(known: pl.Series) -> pl.Series:
    return pl.repeat(str(Hop.SMTP), len(known), dtype=pl.String, eager=True)
