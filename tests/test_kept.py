"""What is kept beside the store: used as long as it holds, worked out anew as soon as it does not."""

import os
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, cast

import polars as pl
import pytest
from examples import policy
from worlds import store_of

from enforcement import exposed, workbench
from enforcement.history import History, Period, Traffic
from enforcement.kept import Kept, key_of
from enforcement.policy import Policy
from enforcement.schema import EXPOSURE_BY_SERVER
from enforcement.store import Store, open_store
from enforcement.workbench import Setting

ROWS = [
    (f"2026-03-{day:02}T{hour:02}:{minute:02}", f"mx{server}.tenant{server % 3}.example", "15.1.2507.6")
    for day in range(1, 29)
    for hour in (3, 14)
    for minute in (1, 17, 44)
    for server in range(1, 7)
]
PERIOD = Period(date(2026, 3, 1), date(2026, 3, 28))


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    """A small store."""
    return Setting(store=store_of(tmp_path / "traffic.duckdb", ROWS))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of what is asked of the traffic, in order: whatever way of reading there is or will be."""
    seen: list[str] = []

    class Watched:
        """Traffic that notes what is asked of it; to bring a table there reads nothing."""

        def __init__(self, traffic: Traffic) -> None:
            self._traffic = traffic

        def __getattr__(self, name: str) -> Any:
            if name not in ("bring", "sums_itself"):
                seen.append(name)
            return getattr(self._traffic, name)

    read_history = Store.history

    def history(store: Store, to_on: date | None = None) -> History:
        found = read_history(store, to_on)
        found.period()  # the ends of the history are not what this is about
        known = replace(found, traffic=cast("Traffic", Watched(found.traffic)))
        known.__dict__["_ends"] = found.period()
        return known

    monkeypatch.setattr(Store, "history", history)
    return seen


def with_stages(text: str) -> Policy:
    return policy(stages=text)


def test_only_stages_change_and_nothing_is_read_again(setting: Setting, reads: list[str]) -> None:
    """The first question reads the traffic; other stages, words and guardrails do not."""
    first = workbench.exposed_to(with_stages("[{ days = 5 }, { block = 60 }]"), setting)
    assert reads.count("batches") == 1
    assert reads.count("collected") >= 3
    reads.clear()
    again = workbench.exposed_to(
        with_stages("[{ days = 2, throttle = 7 }, { days = 9, block = 3 }, { block = 60 }]"), setting
    )
    assert reads == []
    assert again.exposure.by_day.rows().equals(first.exposure.by_day.rows())


def test_who_is_hit_is_read_again_only_when_stages_begin_elsewhere(setting: Setting, reads: list[str]) -> None:
    """The second pass rests on where stages begin, not on their minutes."""
    workbench.replay_policies([with_stages("[{ days = 5 }, { block = 60 }]")], setting)
    reads.clear()
    workbench.replay_policies([with_stages("[{ days = 5, throttle = 9 }, { throttle = 3, block = 20 }]")], setting)
    assert reads == []
    workbench.replay_policies([with_stages("[{ days = 6, throttle = 9 }, { throttle = 3, block = 20 }]")], setting)
    assert reads == ["of_builds", "of_builds", "batches"]


def test_what_is_kept_gives_what_is_read(setting: Setting) -> None:
    """A replay on what is kept equals the one that read the traffic, in every table."""
    first, again = (workbench.replay_policies(["ninety-days"], setting)[0] for _ in range(2))
    for name in ("by_day", "by_stage", "by_group", "delays", "tenants", "servers", "evidence", "untouched", "entries"):
        assert getattr(first, name).equals(getattr(again, name)), name
        assert getattr(first, name).schema == getattr(again, name).schema, name


@pytest.mark.parametrize("harm", [b"", b"PAR1", b"\x00" * 5_000, None])
@pytest.mark.parametrize("name", ["by_day", "segments", "kinds"])
def test_a_damaged_file_is_worked_out_anew(setting: Setting, name: str, harm: bytes | None) -> None:
    """Whatever happened to the folder, the answer is the same."""
    before = workbench.replay_policies(["ninety-days"], setting)[0]
    (file,) = Path(f"{setting.store}.exposure").glob(f"*/{name}.parquet")
    if harm is None:
        file.unlink()
    else:
        file.write_bytes(harm)
    after = workbench.replay_policies(["ninety-days"], setting)[0]
    assert after.totals == before.totals
    assert after.by_day.equals(before.by_day)
    assert pl.read_parquet(file).height


def test_a_folder_that_cannot_be_written_keeps_nothing(setting: Setting) -> None:
    """Where a file stands in the way of the folder, every answer is worked out, and the file stays."""
    blocked = Path(f"{setting.store}.exposure")
    blocked.write_text("mine")
    assert workbench.replay_policies(["ninety-days"], setting)[0].totals["subject"] > 0
    assert blocked.read_text() == "mine"


CHANGES = {
    "rules": 'rules = [{ name = "unsupported", since = "unsupported_since", after_days = 1 }]',
    "cohorts": 'cohorts = [{ name = "all", starts_on = 2026-03-02 }]',
    "window": 'window = "spread"',
    "routes": 'routes = ["direct"]',
    "clear_after_days": "clear_after_days = 3",
    "pause": "pause = { days_per_year = 9 }",
    "exemptions": 'exemptions = [{ tenant = "tenant1.example", until = 2026-03-09 }]',
    "count_private_updates": "count_private_updates = true",
    "minimum_builds": "minimum_builds = "
    '[{ product = "Exchange Server 2016", build = "15.1.2507.61", from = 2026-03-08 }]',
}


@pytest.mark.parametrize("part", CHANGES)
def test_the_key_knows_all_that_counts(part: str) -> None:
    """Each part of a policy that moves the exposure changes its key, and so do the period and what else it rests on."""
    key = key_of(policy(), PERIOD, {"traffic": "1"})
    assert key_of(policy(**{part: CHANGES[part].partition(" = ")[2]}), PERIOD, {"traffic": "1"}) != key


def test_the_key_knows_the_history_and_the_period() -> None:
    key = key_of(policy(), PERIOD, {"traffic": "1"})
    assert key_of(policy(), PERIOD, {"traffic": "2"}) != key
    assert key_of(policy(), Period(date(2026, 3, 2), PERIOD.to_on), {"traffic": "1"}) != key
    assert key_of(policy(stages="[{ block = 60 }]"), PERIOD, {"traffic": "1"}) == key


def test_another_program_reads_anew(setting: Setting, reads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What an earlier program worked out is not taken for what this one would."""
    workbench.exposed_to(policy(), setting)
    reads.clear()
    monkeypatch.setattr("enforcement.shipped.program_hash", lambda: "another")
    workbench.exposed_to(policy(), setting)
    assert reads.count("batches") == 1


def test_what_is_known_of_later_days_counts(setting: Setting, reads: list[str]) -> None:
    """A clock start behind the last hand-over is known without a last day, and not with one."""
    workbench.exposed_to(policy(), setting)
    reads.clear()
    workbench.exposed_to(policy(), replace(setting, to_on=PERIOD.to_on))
    assert reads.count("batches") == 1


def test_every_part_of_a_policy_is_placed() -> None:
    """A new key of the policy file must be said to count or not."""
    does_not_count = {
        "schema_version", "name", "title", "author", "reference", "baseline", "stages", "silent_after_days", "notice",
        "guardrails", "export",
    }  # fmt: skip
    assert set(Policy.model_fields) == does_not_count | set(CHANGES)


def made(setting: Setting) -> exposed.Exposed:
    with open_store(setting.store) as store:
        return exposed.expose(store.history(), policy(), setting.background(), PERIOD)


def aged(*places: Path) -> None:
    """Make places older than all that comes, the first the oldest: file systems tell times apart only roughly."""
    for seconds, place in enumerate(places):
        os.utime(place, (1_000 + seconds, 1_000 + seconds))


def test_the_longest_unused_go_first(tmp_path: Path, setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than so many are kept; what is used again, in whichever way, stays before what is not."""
    monkeypatch.setattr("enforcement.kept._MOST_KEPT", 3)
    folder = tmp_path / "kept"
    kept = Kept(folder)
    counted = made(setting)
    by_server = pl.DataFrame(schema=dict(EXPOSURE_BY_SERVER))
    for key in ("a", "b", "c"):
        kept.exposed(key, PERIOD, lambda: counted)
    kept.by_server("b", [0], lambda: by_server)
    aged(folder / "a", folder / "b", folder / "c")
    kept.exposed("a", PERIOD, _never)
    kept.by_server("b", [0], _never)
    kept.exposed("d", PERIOD, lambda: counted)
    assert sorted(place.name for place in folder.iterdir()) == ["a", "b", "d"]


def test_who_is_hit_is_kept_for_so_many_starts_of_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one key, no more than so many are kept; what is used again stays before what is not."""
    monkeypatch.setattr("enforcement.kept._MOST_BY_SERVER", 2)
    kept = Kept(tmp_path)
    by_server = pl.DataFrame(schema=dict(EXPOSURE_BY_SERVER))
    files: list[Path] = []
    for start in (1, 2):
        kept.by_server("key", [0, start], lambda: by_server)
        files += sorted(set((tmp_path / "key").iterdir()) - set(files))
    aged(*files)
    kept.by_server("key", [0, 1], _never)
    kept.by_server("key", [0, 3], lambda: by_server)
    left = set((tmp_path / "key").iterdir())
    assert len(left) == 2
    assert files[0] in left
    assert files[1] not in left


def _never() -> Any:
    raise AssertionError("worked out again")
