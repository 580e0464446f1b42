"""What a notebook or a command asks of the workbench: each question one call on a store."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import polars as pl

from enforcement import __version__, sample, shipped
from enforcement.builds import Build, Hop
from enforcement.check import Lint, lints
from enforcement.engines import lakes
from enforcement.explain import Case, Seen, explain, find_server
from enforcement.export.calendar import calendar
from enforcement.export.manifest import MANIFEST_NAME, Origin
from enforcement.export.write import export_files, write_export
from enforcement.fleet import Reckoning, fleet, standing_by_day
from enforcement.history import History, Period
from enforcement.importers.batch import Batch
from enforcement.importers.sources import Source
from enforcement.pauses import read_ledger
from enforcement.policy import Policy, Route
from enforcement.replay import Background, Replay, replay
from enforcement.sample import Extent
from enforcement.schema import PAUSES, REJECTS
from enforcement.standing import standings
from enforcement.store import Forgotten, ImportRecord, Store, create_store, open_store

DEFAULT_STORE: Final = shipped.DATA / "traffic.duckdb"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Where a question is asked: the store, the days, the assumptions, and the ledger of pauses taken.

    `traffic` is Parquet that an engine reads instead of the store.
    """

    store: Path = DEFAULT_STORE
    from_on: date | None = None
    to_on: date | None = None
    assumptions: str = "default"
    pauses: Path | None = None
    traffic: str | None = None
    engine: str | None = None
    master: str | None = None

    def background(self) -> Background:
        """Load what is the same for all policies."""
        return Background(
            catalogue=shipped.load_catalogue(),
            senders=shipped.load_assumptions(self.assumptions).sender_mix,
            pauses=_ledger(self.pauses),
        )

    def period(self, history: History) -> Period:
        """Give the days asked for, left out ones from the history; a day that it does not have holds no mail."""
        known = history.period()
        asked = Period(self.from_on or known.from_on, self.to_on or known.to_on)
        if asked.from_on > asked.to_on:
            raise ValueError(f"no day from {asked.from_on} to {asked.to_on} (the history has {known[0]} to {known[1]})")
        return asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Where an export goes, why guardrails may be broken, its number on its day, and the run that chose the policy."""

    out: Path
    override: str | None = None
    revision: int = 0
    run: str | None = None
    today: date | None = None  # an export of a later day is refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """An export that was written, and the replay that it rests on."""

    folder: Path
    manifest: dict[str, Any]
    calendar: pl.DataFrame
    replay: Replay


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The fleet as it stood on a day, and how it came there."""

    as_of: date
    policy: Policy
    servers: pl.DataFrame
    standing_by_day: pl.DataFrame
    history: History


def make_sample(store: Path, extent: Extent) -> ImportRecord:
    """Put a made-up fleet and its traffic into a store; the same sample again changes nothing."""
    name = f"sample of {extent.messages:,} messages, seed {extent.seed}"
    shape_file = shipped.DATA / "sample.toml"
    told = (repr(extent), __version__, *(path.read_bytes() for path in (shape_file, *shipped.catalogue_files())))
    digest = hashlib.sha256("\n".join(str(part) for part in told).encode()).hexdigest()

    def batch() -> Batch:
        made = sample.make_sample(shipped.load_catalogue(), shipped.load_sample_shape(), extent)
        return Batch(
            handovers=made.handovers,
            sightings=made.sightings,
            rejects=pl.DataFrame(schema=REJECTS),
            rows_read=made.handovers.height,
        )

    with create_store(store) as opened:
        return opened.add(source=name, sha256=digest, options={"kind": "sample"}, batch=batch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import kept, a record each source; why rows were rejected; what was wrong with unreadable sources.

    rejected: reason, rows, first_excerpt, of the sources imported just now.
    """

    records: list[ImportRecord]
    rejected: pl.DataFrame
    problems: list[str]


def import_sources(store: Path, sources: Sequence[Source], report: Callable[[str, int, int], None]) -> Imported:
    """Import sources, each whole or not at all; one that cannot be read does not keep the others out."""
    records, problems = [], []
    with create_store(store) as opened:
        for source in sources:
            try:
                records.append(
                    opened.add(
                        source=source.name,
                        sha256=source.sha256(),
                        options=source.options,
                        batch=partial(source.read, partial(report, source.name)),
                    )
                )
            except ValueError as problem:
                problems.append(str(problem))
        new = [record.import_id for record in records if not record.already_imported]
        rejects = opened.rejects().filter(pl.col("import_id").is_in(new))
    rejected = rejects.group_by("reason").agg(rows=pl.len(), first_excerpt=pl.col("excerpt").first())
    return Imported(records=records, rejected=rejected.sort("rows", "reason", descending=True), problems=problems)


def forget(store: Path, *, import_id: int | None, before: date | None) -> Forgotten:
    """Remove an import, or all rows before a day."""
    open_store(store).close()  # a store that is not there is an error here, and never made
    with create_store(store) as opened:
        return opened.forget(import_id) if import_id is not None else opened.forget_before(before or date.min)


@contextmanager
def opened_history(setting: Setting, tell: Callable[[str], None] | None = None) -> Iterator[History]:
    """Give the history of a setting, from its store or from Parquet; what that does not use is told."""
    if setting.traffic is None and setting.engine is None and setting.master is None:
        with open_store(setting.store) as store:
            yield store.history(to_on=setting.to_on)
        return
    with lakes.open_traffic(setting.traffic, setting.engine, master=setting.master, to_on=setting.to_on) as history:
        for line in lakes.said(history):
            if tell is not None:
                tell(line)
        yield history


def replay_policies(
    policies: Sequence[str | Policy], setting: Setting, tell: Callable[[str], None] | None = None
) -> list[Replay]:
    """Replay policies, given by name, path, or value, over the same history."""
    loaded = [policy if isinstance(policy, Policy) else shipped.load_policy(policy) for policy in policies]
    background = setting.background()
    with opened_history(setting, tell) as history:
        period = setting.period(history)
        return [replay(history, policy, background, period) for policy in loaded]


def fleet_on(policy: str | Policy, setting: Setting) -> Fleet:
    """List the fleet by a policy's rules on the last day asked for (default: the last day of the history)."""
    rules = policy if isinstance(policy, Policy) else shipped.load_policy(policy)
    with open_store(setting.store) as store:
        history = store.history(to_on=setting.to_on)
        sightings = store.sightings()
    period = setting.period(history)
    table = standings(history.builds, shipped.load_catalogue(), rules)
    when = Reckoning(period.to_on, rules.silent_after_days)
    return Fleet(
        as_of=period.to_on,
        policy=rules,
        servers=fleet(history.days, sightings, history.servers, table, when),
        standing_by_day=standing_by_day(history.days, table, rules, period),
        history=history,
    )


def check_policy(policy: str, today: date) -> list[Lint]:
    """Give what is allowed in a policy but rarely meant; an invalid one is a PolicyError."""
    return list(lints(shipped.load_policy(policy), shipped.load_catalogue(), today=today))


def check_policies(policies: Sequence[str], today: date) -> tuple[dict[str, list[Lint]], list[str]]:
    """Give what is allowed in each policy but rarely meant, and what is wrong with those that are not valid."""
    found: dict[str, list[Lint]] = {}
    problems: list[str] = []
    for policy in policies:
        try:
            found[policy] = check_policy(policy, today)
        except (ValueError, LookupError) as problem:
            problems.append(str(problem))
    return found, problems


def explain_message(policy: str | Policy, setting: Setting, *, server: str, at: datetime, build: str | None) -> Case:
    """Explain what a message of a server meets at a UTC time; without a build: its last hand-over until then."""
    rules = policy if isinstance(policy, Policy) else shipped.load_policy(policy)
    with open_store(setting.store) as store:
        history = store.history(to_on=at.date())
        row = find_server(store.servers(), server)
        if build is not None:
            seen = Seen(server=row, build=str(Build.parse(build)), hop=Hop.SMTP, route=Route.DIRECT)
        else:
            seen = _last_seen(store, row, at)
    return explain(history, rules, setting.background(), seen, at)


def _last_seen(store: Store, row: dict[str, object], at: datetime) -> Seen:
    found = store.last_hand_over(int(str(row["server_id"])), at)
    if found is None:
        raise LookupError(f"no hand-over of {row['server']} at or before {at:%Y-%m-%d %H:%M} UTC (or give --build)")
    sent_at, build, hop, came = found
    return Seen(server=row, build=build, hop=Hop(hop), route=Route.DIRECT, sent_at=sent_at, came=came)


def export_policy(policy: str, setting: Setting, order: Order) -> Exported:
    """Export a policy as of the last day asked for, or raise ExportError."""
    path = shipped.policy_file(policy)
    with open_store(setting.store) as store:
        history = store.history(to_on=setting.to_on)
        as_of = setting.period(history).to_on
        if order.today is not None and as_of > order.today:
            raise ValueError(f"as of {as_of}, after today (a message with a wrong clock? give --as-of {order.today})")
        result = replay(history, shipped.load_policy(policy), setting.background(), setting.period(history))
    origin = Origin(
        policy=result.policy.name,
        as_of=as_of,
        valid_days=result.policy.export.valid_days,
        revision=order.revision,
        guardrails=result.guardrails.to_dicts(),
        override=order.override,
        run=order.run,
        inputs=_inputs(setting, history),
    )
    files = export_files(result, history, origin, policy_toml=path.read_bytes())
    write_export(files, order.out)
    return Exported(
        folder=order.out,
        manifest=json.loads(files[MANIFEST_NAME]),
        calendar=calendar(result.course.spans, history.servers, result.policy, as_of=as_of),
        replay=result,
    )


def _inputs(setting: Setting, history: History) -> dict[str, str]:
    """Hash what an answer rests on beside the policy."""
    files = [*shipped.catalogue_files(), shipped.assumptions_file(setting.assumptions)]
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    if setting.pauses is not None:
        hashes["pauses"] = hashlib.sha256(setting.pauses.read_bytes()).hexdigest()
    return hashes | {"traffic": history.fingerprint}


def _ledger(path: Path | None) -> pl.DataFrame:
    if path is None:
        return pl.DataFrame(schema=PAUSES)
    return read_ledger(shipped.read_text(path), source=path.name)
