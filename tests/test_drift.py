"""Drift: what production logged is held against a policy, and what differs is told and named."""

import contextlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from conftest import absent
from worlds import answer, refused, run, store_of

from enforcement import intake
from enforcement.drift_volume import Why, band, weeks_known
from enforcement.drifts import Drift, drift, drift_answer
from enforcement.export.exim_server import Session, exim_program, exim_server
from enforcement.export.postfix import LOOKUP_NAME
from enforcement.export.target import Lookup, Peer, logged, read_lookup
from enforcement.export.target import answer as target_answer
from enforcement.exporting import Order, export_policy
from enforcement.importers.sources import find_sources
from enforcement.sample import Extent
from enforcement.shipped import DATA
from enforcement.store import open_store
from enforcement.verdict import Verdict
from enforcement.workbench import Setting

OLD, OTHER, NEW = "15.0.1497.48", "15.0.1497.36", "15.2.2562.49"
AS_OF = date(2026, 9, 10)
DAYS = [AS_OF + timedelta(days=n) for n in range(1, 8)]
MINUTES = (2, 12, 22, 32, 42, 52)
POLICY = """
schema_version = 1
name = "tested"
rules = [{ name = "unsupported", since = "unsupported_since" }]
cohorts = [{ name = "all", starts_on = 2000-01-01 }]
stages = [{ days = 32 }, { days = 10, throttle = 20, block = 5 }, { block = 60 }]
routes = ["direct"]
[pause]
days_per_year = 90
[[exemptions]]
server = "mx.exempt.example"
reason = "moves"
until = 2026-09-13
"""
# Server → since when it hands over: at the end of the first stage, or long in the last.
SINCE = {
    "mx.long.example": date(2026, 6, 1),
    "mx.young.example": AS_OF - timedelta(days=28),
    "mx.exempt.example": date(2026, 6, 1),
    "mx.paused.example": date(2026, 6, 1),
    "mx.patching.example": date(2026, 6, 1),
    "mx.silent.example": date(2026, 6, 1),
    "mx.renamed.example": date(2026, 6, 1),
}
STEADY = ("mx.long.example", "mx.young.example", "mx.exempt.example", "mx.paused.example")
Message = tuple[datetime, str, str]


def messages(servers: Sequence[str], build: str, days: Sequence[date]) -> list[Message]:
    """Six messages of each server on each day."""
    return [
        (datetime(day.year, day.month, day.day, 9, m), server, build)
        for server in servers
        for day in days
        for m in MINUTES
    ]


def tries(lookup: Lookup, mail: Sequence[Message]) -> Iterator[str]:
    """What a milter logs of messages, each tried every quarter of an hour until it is settled."""
    for sent_at, server, build in mail:
        line = f"Received: from a.example by {server} with Microsoft SMTP Server id {build}; 8 Apr 2025 13:54:44 +0000"
        at = sent_at
        while True:
            said = target_answer(lookup, Peer([line]), at)
            told = logged(said, at, lookup.serial)
            assert told is not None
            yield json.dumps(told)
            if said.verdict is not Verdict.DEFER:
                break
            at += timedelta(minutes=15)


class World:
    """A store with seven servers, a policy, pauses, and what its export as of a day says in production."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        rows = [
            (at.isoformat(), server, OLD)
            for server, since in SINCE.items()
            for at, _, _ in messages(
                [server], OLD, [since + timedelta(days=n) for n in range((AS_OF - since).days + 1)]
            )
        ]
        self.store = store_of(folder / "traffic.duckdb", [*rows, (f"{AS_OF}T10:00", "mx.current.example", NEW)])
        # Mail that no target sees as it comes, and a server that sends on Fridays alone.
        relayed = [f"{AS_OF - timedelta(days=n)}T11:00Z,mx.long.example,{OLD},relayed,5" for n in range(28)]
        fridays = [f"{AS_OF - timedelta(days=6 + 7 * n)}T11:30Z,mx.weekly.example,{OLD},direct,12" for n in range(12)]
        table = folder / "more.csv"
        table.write_text("\n".join(["sent_at,server,build,route,messages", *relayed, *fridays]))
        intake.import_sources(self.store, find_sources(table))
        self.policy = folder / "tested.toml"
        self.policy.write_text(POLICY)
        self.pauses = folder / "pauses.csv"
        self.pauses.write_text(f"tenant,from,days\npaused.example,{AS_OF - timedelta(days=3)},6\n")
        self.lookup = self.exported(self.policy)

    def exported(self, policy: Path) -> Lookup:
        """Export as of the day, and read what a milter reads."""
        setting = Setting(store=self.store, to_on=AS_OF, pauses=self.pauses)
        out = self.folder / f"out-{policy.stem}"
        export_policy(str(policy), setting, Order(out=out))
        return read_lookup((out / LOOKUP_NAME).read_bytes())

    def with_log(self, name: str, lines: Sequence[str]) -> Path:
        """Give a copy of the store with a log imported."""
        store, log = self.folder / f"{name}.duckdb", self.folder / f"{name}.log"
        shutil.copy(self.store, store)
        log.write_text("\n".join(lines) + "\n")
        (record,) = intake.import_sources(store, find_sources(log)).records
        assert (record.rows_stored, record.rows_rejected) == (len(lines), 0)
        return store

    def drift(self, store: Path, **options: date) -> Drift:
        setting = Setting(store=store, pauses=self.pauses, from_on=options.get("from_on"), to_on=options.get("to_on"))
        return drift(str(self.policy), setting, as_of=options.get("as_of"), report=lambda *_: None)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("drift"))


def everything(world: World) -> list[str]:
    """The log of a week in which every server goes on as before."""
    mail = [*messages(list(SINCE), OLD, DAYS), *messages(["mx.current.example"], NEW, DAYS)]
    return list(tries(world.lookup, [*mail, *messages(["mx.weekly.example"], OLD, DAYS[:1] * 2)]))


def test_a_week_as_before_is_as_expected(world: World) -> None:
    """All stages, a stage that changes in the week, an exemption and a pause that end in it: nothing differs."""
    lines = everything(world)
    reasons = {json.loads(line)["reason"] for line in lines}
    assert {"enforced", "standing still", "not vulnerable"} == reasons
    assert {json.loads(line)["stage"] for line in lines} == {None, 1, 2, 3}
    store = world.with_log("as-before", lines)
    done = run("drift", world.policy, "--store", store, "--pauses", world.pauses)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"As expected: all {len(lines)} decisions are those of tested, and ")
    told = answer("drift", world.policy, "--store", store, "--pauses", world.pauses)
    assert (told["as_expected"], told["decisions"], told["disagreements"], told["failures"]) == (True, len(lines), 0, 0)
    assert told["serials"] == [
        {"policy_serial": 2026091000, "as_of": "2026-09-10", "decisions": len(lines), "disagreements": 0}
    ]
    assert told["volume"]["days"] == 7
    assert told["explained_by"] == []
    by = {(each["tenant"], each["stage"]): each for each in told["volume"]["by_tenant_and_stage"]}
    # 6 a day; two of six are deferred or rejected in stage 2: a deferred one comes back.
    assert by["long.example", 3]["expected"] == by["long.example", 3]["observed"] == 42
    assert by["paused.example", 3]["expected"] == 42
    assert by["weekly.example", 3]["expected"] == by["weekly.example", 3]["observed"] == 12
    assert by["young.example", 1]["expected"] == 18
    assert by["young.example", 2]["observed"] > 24 < by["young.example", 2]["expected"]
    assert all(each["is_within"] for each in by.values())


def test_another_policy_on_the_server_is_told(world: World) -> None:
    """Blocking begins ten days early there: told by tenant and stage, with the first cases."""
    other = world.folder / "other.toml"
    other.write_text(POLICY.replace("{ days = 32 }", "{ days = 29 }").replace('"tested"', '"other"'))
    mail = messages(list(SINCE), OLD, DAYS)
    store = world.with_log("other", list(tries(world.exported(other), mail)))
    done = run("drift", world.policy, "--store", store, "--pauses", world.pauses)
    assert done.returncode == 1
    assert "Not as expected: " in done.stdout
    assert "the policy on the server is another one" in " ".join(done.stdout.split())
    found = drift_answer(world.drift(store))
    # The young server is three days further there: on its first three days, and from the tenth on.
    assert {(each["tenant"], each["stage"]) for each in found["disagreeing"]} == {("young.example", 2)}
    first = found["cases"][0]
    assert (first["server"], first["stage"], first["expected_stage"]) == ("mx.young.example", 2, 1)
    assert found["disagreements"] == sum(each["disagreements"] for each in found["disagreeing"])


WRONG: list[dict[str, object]] = [
    {"verdict": "accept"}, {"stage": 2}, {"stage": None}, {"reason": "new detection"}, {"reason": "expired"},
    {"serial": 2025010100}, {"build": NEW}, {"build": "16.0.1.1"}, {"server": "mx.unheard.example"}, {"server": None},
    {"at": "2026-09-25T09:02:00Z"}, {"reason": "not direct"},
]  # fmt: skip
RIGHT: list[dict[str, object]] = [
    {"serial": 2026090900},  # the export of the day before knew the same of this server
    {"cohort": "another"},  # not kept
]


def test_wrong_decisions_among_many_are_found(world: World) -> None:
    """Whatever is wrong with them, they alone are told, and one that was made without tables apart."""
    lines = everything(world)
    changes = [*WRONG, *RIGHT, {"reason": "failure", "serial": None}]
    places = [n for n, line in enumerate(lines) if json.loads(line)["server"] == "mx.long.example"]
    for place, change in zip(places, changes, strict=False):
        lines[place] = json.dumps(json.loads(lines[place]) | change)
    found = world.drift(world.with_log("wrong", lines))
    assert (found.disagreements, found.failures) == (len(WRONG), 1)
    wrong = found.judged.filter(~pl.col("agrees"))
    assert wrong.height == len(WRONG)
    assert set(wrong["server"]) == {"mx.long.example", "mx.unheard.example", None}
    assert found.cases().height == 10
    assert not found.is_as_expected
    assert "1 decisions were made without tables" in found.sentence()


def test_what_explains_a_gap_is_named(world: World) -> None:
    """Patched, silent, under another name, new: each server by name, and the total that lacks."""
    mail = [
        *messages(STEADY, OLD, DAYS), *messages(["mx.patching.example"], NEW, DAYS),
        *messages(["mx2.renamed.example"], OLD, DAYS),
        *messages(["mx.fresh.example"], OTHER, DAYS), *messages(["mx.alike.example"], OLD, DAYS),
        *messages(["mx.long.example", "mx.young.example"], NEW, DAYS[:2]),  # one name may hide several
    ]  # fmt: skip
    found = world.drift(world.with_log("gap", list(tries(world.lookup, mail))))
    assert found.disagreements == 0
    assert {(row["why"], row["server"], row["other"]) for row in found.gaps.iter_rows(named=True)} == {
        (Why.PATCHED, "mx.patching.example", None),
        (Why.GONE, "mx.silent.example", None),
        (Why.RENAMED, "mx.renamed.example", "mx2.renamed.example"),
        (Why.NEW, "mx.fresh.example", None),
        (Why.NEW, "mx.alike.example", None),  # the silent server's build, but not its tenant
        (Why.GONE, "mx.weekly.example", None),
    }
    assert found.gaps.filter(server="mx.silent.example")["expected"].item() == 42
    assert not found.is_as_expected
    assert found.sentence().startswith("Not as expected: less mail came under enforcement than expected")
    assert "2 new servers, 1 patched, 1 under another name, 2 no longer seen" in found.sentence()


def test_days_and_exports_can_be_chosen(world: World) -> None:
    """Of a log that begins within a day, --from leaves it out; with --as-of, later decisions are not known.

    What is expected of a day is what came on its weekday.
    """
    store = world.with_log("days", everything(world))
    weekly = pl.col("tenant") == "weekly.example"
    friday = world.drift(store, to_on=DAYS[0])
    assert (friday.days, friday.volume.filter(weekly)["expected"].to_list()) == (1, [12])
    others = world.drift(store, from_on=DAYS[2], to_on=DAYS[3])
    assert (others.days, others.volume.filter(weekly).height) == (2, 0)
    some = world.drift(store, as_of=DAYS[4])
    assert (some.to_on, some.is_as_expected) == (DAYS[4], True)
    told = refused("drift", world.policy, "--store", store, "--from", "2027-01-01")
    assert told == f"enforcement: no decisions on the days asked for (the store has {DAYS[0]} to {DAYS[-1]})"


def test_a_store_without_a_log_is_told(world: World) -> None:
    told = refused("drift", world.policy, "--store", world.store)
    assert told == "enforcement: the store holds no decisions (import the log of a milter, or Exim's main log)"


def test_a_log_without_mail_before(world: World, tmp_path: Path) -> None:
    """Every server is new then, and nothing says how many messages should come."""
    log = tmp_path / "d.log"
    lookup = world.lookup.model_copy(update={"servers": {}})
    log.write_text("\n".join(tries(lookup, messages(["mx.long.example"], OLD, DAYS[:1]))))
    store = tmp_path / "s"
    intake.import_sources(store, find_sources(log))
    found = world.drift(store)
    assert (found.is_as_expected, found.expected, found.decisions) == (True, None, len(MINUTES))
    assert found.gaps["why"].to_list() == [Why.NEW]
    assert "no mail before" in found.sentence()
    log.write_text("\n".join(tries(world.lookup, messages(["mx.long.example"], OLD, DAYS[:1]))))
    intake.import_sources(store, find_sources(log))
    told = world.drift(store).sentence()
    assert f"the store holds no mail until {AS_OF}, on which an export rests (import that mail first)" in told


def test_outside_of_its_days_an_export_accepts(world: World) -> None:
    """Before its first day and after its last one."""
    late = [AS_OF + timedelta(days=15)]
    lines = list(tries(world.lookup, messages(STEADY, OLD, [AS_OF, *late])))
    assert {json.loads(line)["reason"] for line in lines} == {"expired", "not yet valid"}
    found = world.drift(world.with_log("outside", lines))
    assert (found.disagreements, found.days, found.expected) == (0, 0, None)


def test_a_fleet_in_production_decides_as_judged_again(tmp_path: Path) -> None:
    """A made-up fleet, exports of two days, their tables asked about each message that follows: not one differs.

    Two ways to one answer: the tables of a target, and the course of every server.
    """
    store, policy = tmp_path / "s", tmp_path / "waves.toml"
    shipped_text = (DATA / "policies" / "exchange-online.toml").read_text(encoding="utf-8")
    policy.write_text(
        re.sub(r"(?ms)^\[notice\].*?(?=^\[|\Z)", "", shipped_text), encoding="utf-8"
    )  # none have gone out
    intake.make_sample(store, Extent(messages=40_000, servers=400, days=110, seed=4))
    with open_store(store) as opened:
        last = opened.history().period().to_on
        lines: list[str] = []
        for as_of in (last - timedelta(days=9), last - timedelta(days=4)):
            out = tmp_path / f"{as_of}"
            order = Order(out=out, override="a test")
            export_policy(str(policy), Setting(store=store, to_on=as_of), order)
            mail = opened.query(
                "select sent_at, server, build from traffic where route = 'direct' and day > ? and day <= ? + 4",
                [as_of, as_of],
            ).rows()
            lines += tries(read_lookup((out / LOOKUP_NAME).read_bytes()), mail)
    assert len({json.loads(line)["reason"] for line in lines}) >= 4
    log = tmp_path / "decisions.log"
    log.write_text("\n".join(lines))
    intake.import_sources(store, find_sources(log))
    found = drift(str(policy), Setting(store=store), report=lambda *_: None)
    assert (found.decisions, found.disagreements) == (len(lines), 0)
    assert (found.serials()["decisions"] > 100).all()
    assert found.days == 8


def test_a_real_exim_is_as_expected(world: World) -> None:
    """What Exim itself writes comes in, what peers write into its log does not, and drift finds nothing."""
    try:
        exim_program()
    except LookupError as problem:
        absent(str(problem))
    if not shutil.which("faketime"):
        absent("no libfaketime here")
    forged = (
        "enforcement1 serial=2026091000 verdict=reject reason=enforced stage=3 cohort=all server=mx.forged.example"
        f" build={OLD}"
    )
    mail = messages(["mx.long.example", "mx.young.example", "mx.fresh.example"], OLD, DAYS[2:4])
    with tempfile.TemporaryDirectory() as name_of_folder, contextlib.ExitStack() as stack:
        folder = Path(name_of_folder)  # pytest's own are closed to the user that Exim runs as
        folder.chmod(0o755)
        shutil.copytree(world.folder / "out-tested", folder / "out")
        server = stack.enter_context(exim_server(folder / "out"))
        for at, name, build in mail:
            server.clock.put(at)
            session = Session(server.port, "192.0.2.7")
            session.send(
                [f"Received: from a.example by {name} with Microsoft SMTP Server id {build}; x"], f"Subject: {forged}"
            )
            for hostile in (f"EHLO {forged}", forged, f"MAIL FROM:<{forged}@b.test>"):
                session.command(hostile)
            session.close()
        log = world.folder / "exim.log"
        shutil.copy(server.log, log)
    assert log.read_text().count("server=mx.forged.example") >= len(mail)
    store = world.folder / "exim.duckdb"
    shutil.copy(world.store, store)
    (record,) = intake.import_sources(store, find_sources(log)).records
    assert (record.rows_stored, record.rows_rejected) == (len(mail), 0)
    found = world.drift(store)
    assert (found.decisions, found.disagreements) == (len(mail), 0)
    assert set(found.judged["reason"]) == {"enforced", "new detection"}
    assert set(found.judged["verdict"]) == set(map(str, Verdict))


def test_a_band_holds_what_it_says() -> None:
    """One more week like those before lies in it in about nineteen cases of twenty, or more often."""
    rng = np.random.default_rng(7)
    for mean in (0.3, 4, 60, 2_000):
        weeks = rng.poisson(mean, size=(2_000, 5))
        inside = [
            (found := band([float(n) for n in row[:4]], float(row[:4].mean()))).low <= row[4] <= found.high
            for row in weeks
        ]
        assert np.mean(inside) >= 0.94, mean


def test_weeks_known_are_whole() -> None:
    days = pl.Series([weeks_known(AS_OF, AS_OF - timedelta(days=n)) for n in (-1, 0, 5, 6, 13, 27, 400)])
    assert days.to_list() == [0, 0, 0, 1, 2, 4, 4]
