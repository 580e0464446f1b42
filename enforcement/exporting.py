"""A policy exported from a store: judged, announced, written for every target, signed."""

import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from enforcement import shipped
from enforcement.announcing import read_ledger_of_notices
from enforcement.catalogue import Catalogue
from enforcement.export.calendar import last_day
from enforcement.export.manifest import MANIFEST_NAME, Origin, serial
from enforcement.export.notice_plan import judge, plan
from enforcement.export.notices import Known, notice_files
from enforcement.export.reach import told_of_reach
from enforcement.export.signing import read_signing_key
from enforcement.export.tables import Edition, Tables, read_identities, tables
from enforcement.export.vectors import Oracle
from enforcement.export.write import RefusedError, export_files, refuse, write_export
from enforcement.history import History
from enforcement.replay import Replay
from enforcement.store import open_store
from enforcement.workbench import Setting, ended, hash_of, replayed_on, rests_on


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Where an export goes, why guardrails may be broken, its number on its day, and the run that chose the policy."""

    out: Path
    override: str | None = None
    revision: int = 0
    run: str | None = None
    identities: Path | None = None  # addresses, networks and certificates that an operator knows the servers of
    key: Path | None = None  # signs the manifest; its path goes into nothing that is written
    notices_sent: Path | None = None  # the ledger of notices; without one they are supposed to go out in time
    today: date | None = None  # an export of a later day is refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """An export that was written, and the replay that it rests on."""

    folder: Path
    manifest: dict[str, Any]
    calendar: pl.DataFrame
    replay: Replay
    relies_on: tuple[str, ...]  # notices that are supposed to have gone out
    reach: tuple[str, ...]  # what mail servers leave out, and which identities they know


def export_policy(policy: str, setting: Setting, order: Order) -> Exported:
    """Export a policy as of the last day asked for, or raise ExportError."""
    path = shipped.policy_file(policy)
    with open_store(setting.store) as store:
        history, setting = ended(store, setting)
        as_of = setting.period(history).to_on
        if order.today is not None and as_of > order.today:
            raise ValueError(f"as of {as_of}, after today (a message with a wrong clock? give --as-of {order.today})")
        result = replayed_on(history, shipped.load_policy(policy), setting.background(), setting)
        origin = Origin(
            policy=result.policy.name,
            as_of=as_of,
            not_after=last_day(as_of, result.policy),
            revision=order.revision,
            guardrails=result.guardrails.to_dicts(),
            override=order.override,
            run=order.run,
            inputs=_inputs(setting, history),
        )
        refuse(result, origin)
        edition = Edition(as_of, serial(as_of, order.revision))
        known = tables(result, history, setting.background().catalogue, edition, _identities(order.identities))
        reach = told_of_reach(history, result.course, result.policy, known.identities, as_of=as_of)
        told = _announced(result, history, known, order, setting.background().catalogue)
    key = None if order.key is None else read_signing_key(order.key)
    oracle = Oracle(
        known=known,
        servers=history.servers,
        builds=frozenset(known.builds["build"]),
        way=result.course,
        catalogue=setting.background().catalogue,
    )
    more = {"policy.toml": path.read_bytes(), **told.files}
    files = export_files(oracle, origin, more, key)
    write_export(files, order.out)
    return Exported(
        folder=order.out,
        manifest=json.loads(files[MANIFEST_NAME]),
        calendar=known.calendar,
        replay=result,
        relies_on=told.relies_on,
        reach=reach,
    )


class _Told(NamedTuple):
    files: dict[str, bytes]
    relies_on: tuple[str, ...]


def _announced(result: Replay, history: History, known: Tables, order: Order, catalogue: Catalogue) -> _Told:
    """Give the notices of an export; one whose stages would come before their notices is refused."""
    planned = plan(history, result.course, result.policy, known.calendar, as_of=known.as_of)
    if planned is None:
        return _Told({}, ())
    sent = read_ledger_of_notices(order.notices_sent)
    judged = judge(planned, sent, not_after=known.not_after)
    if judged.refusals:
        raise RefusedError("\n".join(f"not exported: {each}" for each in judged.refusals))
    rest = Known(history=history, way=result.course, calendar=known.calendar, catalogue=catalogue)
    return _Told(notice_files(rest, planned, sent), tuple(judged.assumed))


def _identities(path: Path | None) -> dict[str, str]:
    return {} if path is None else read_identities(shipped.read_text(path), source=path.name)


def _inputs(setting: Setting, history: History) -> dict[str, str]:
    """Hash what an answer rests on beside the policy."""
    assumptions = shipped.assumptions_file(setting.assumptions)
    return {assumptions.name: hash_of(assumptions)} | rests_on(setting, history)
