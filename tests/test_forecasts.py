"""The command `rollout`: its answer, its files, and what it refuses."""

import json
from pathlib import Path

import polars as pl
import pytest
from worlds import answer, refused, run, store_of

from enforcement.shipped import policy_file

OLD = "15.0.1497.42"
NEW = "15.2.2562.37"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [(f"2026-03-{day:02}T10:{server:02}:00", f"mx.t{server}.example", OLD if server % 3 else NEW)
            for day in (1, 2, 9) for server in range(12)]  # fmt: skip
    return store_of(tmp_path_factory.mktemp("rollout") / "mail.duckdb", rows)


def test_the_answer_in_json(store: Path) -> None:
    """One part a policy, the baseline first: bands by day in order, totals, times, guesses, and that it is thin."""
    found = answer("rollout", "ninety-days", "--store", store, "--draws", "20", "--days", "60", "--seed", "3")
    assert [part["policy"] for part in found] == ["none", "ninety-days"]
    part = found[1]
    assert (part["as_of"], part["days"], part["draws"], part["seed"]) == ("2026-03-09", 60, 20, 3)
    assert (part["servers"], part["vulnerable_servers"], part["thin"]) == (12, 8, True)
    today = next(row for row in part["by_day"] if row["measure"] == "vulnerable_servers" and row["day"] == 0)
    assert today["median"] == 8
    for row in part["by_day"] + part["totals"]:
        assert row["low_90"] <= row["low_50"] <= row["median"] <= row["high_50"] <= row["high_90"]
    assert {row["share"] for row in part["times"]} == {0.5, 0.9}
    assert "factors.throttled" in {guess["key"] for guess in part["guesses"]}
    lost = {part["policy"]: next(row for row in part["totals"] if row["measure"] == "lost") for part in found}
    assert lost["none"]["high_90"] == 0 < lost["ninety-days"]["median"]


def test_the_table_says_what_is_supposed(store: Path) -> None:
    """People read the answer first, then bands, and at the end the guesses; no line runs past the page."""
    done = run("rollout", "ninety-days", "--store", store, "--draws", "10", "--days", "40")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("In sight on 2026-03-09: servers 12, their tenants 12.")
    for words in ("Vulnerable servers", "Messages delayed", "Messages lost", "thin: 8 vulnerable servers", "guesses",
                  "90 % of the servers vulnerable today"):  # fmt: skip
        assert words in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 100


def test_run_twice_it_gives_the_same_bytes(store: Path, tmp_path: Path) -> None:
    """Bands and record are the same bytes; the record names seed and hashes, another seed gives other bands."""
    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        done = run("rollout", "gentler", "--store", store, "--draws", "15", "--days", "50", "--seed", str(seed),
                   "--out", tmp_path / name)  # fmt: skip
        assert done.returncode == 0, done.stderr
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["bands.parquet", "rollout.json"]
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert (tmp_path / "one" / files[0]).read_bytes() != (tmp_path / "other" / files[0]).read_bytes()
    record = json.loads((tmp_path / "one" / "rollout.json").read_text())
    assert (record["seed"], record["draws"], record["policies"]) == (3, 15, ["none", "gentler"])
    assert {"traffic", "assumptions", "policy gentler", "exchange_builds.csv"} <= set(record["inputs"])
    table = pl.read_parquet(tmp_path / "one" / "bands.parquet")
    assert table.height == 2 * 6 * 51
    assert table.columns[:4] == ["policy", "measure", "day", "date"]


def test_a_policy_stands_beside_another(store: Path) -> None:
    """With a policy as baseline nothing is compared with none; the same policy twice is one."""
    asked = ("rollout", "gentler", "--baseline", "ninety-days", "--store", store, "--draws", "3", "--days", "20")
    assert [part["policy"] for part in answer(*asked)] == ["ninety-days", "gentler"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--as-of", "2026-02-01"], "the history holds no hand-over up to 2026-02-01 (give a later day)"),
        (["--as-of", "2027-03-09"], "no server in sight on 2027-03-09"),
        (["--days", "0"], "greater than or equal to 1"),
        (["--draws", "0"], "greater than or equal to 1"),
        (["--assumptions", "nowhere.toml"], "nowhere.toml"),
        (["--baseline", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_forecast_is_said_in_a_line(store: Path, options: list[str], said: str) -> None:
    """No server in sight, no day, no draw, no such file: one line, no traceback."""
    assert said in refused("rollout", "ninety-days", "--store", store, *options)


def test_no_vulnerable_server_is_said(tmp_path: Path) -> None:
    """A fleet that is up to date has nothing to forecast."""
    new = store_of(tmp_path / "new.duckdb", [("2026-03-01T10:00:00", "mx.t.example", NEW)])
    line = refused("rollout", "ninety-days", "--store", new, "--draws", "3")
    assert "no server in sight is vulnerable on 2026-03-01" in line


def test_assumptions_without_people_are_refused(store: Path, tmp_path: Path) -> None:
    """A file that knows senders only cannot make a forecast, and says what is missing."""
    path = tmp_path / "senders.toml"
    path.write_text(
        'senders = [{ name = "x", share = 1.0, retry_minutes = [15], gives_up_after_hours = 48, source = "guess" }]\n'
    )
    line = refused("rollout", "ninety-days", "--store", store, "--assumptions", path)
    assert "senders.toml: missing hazards" in line


def test_compare_says_how_sure_a_difference_is(store: Path) -> None:
    """The past and the days to come together; the forecast is that of rollout with the same seed."""
    (found,) = answer(
        "compare", "gentler", "--baseline", "ninety-days", "--store", store, "--draws", "20", "--days", "90"
    )
    ahead = found["ahead"]
    assert (ahead["draws"], ahead["days"]) == (20, 90)
    told = {row["measure"]: row for row in ahead["differences"]}
    assert set(told) == {"accepted_vulnerable", "delayed", "lost", "tenants_hit", "vulnerable_servers"}
    rolled = answer(
        "rollout", "gentler", "--baseline", "ninety-days", "--store", store, "--draws", "20", "--days", "90"
    )
    medians = {part["policy"]: {row["measure"]: row["median"] for row in part["totals"]} for part in rolled}
    for measure in ("accepted_vulnerable", "lost"):
        row = told[measure]
        assert row["low_90"] <= row["low_50"] <= row["median"] <= row["high_50"] <= row["high_90"]
        assert (row["value"], row["against"]) == (medians["gentler"][measure], medians["ninety-days"][measure])
    assert "ahead" not in answer("compare", "gentler", "stricter", "--store", store, "--draws", "0")[0]


def test_two_policies_of_one_name_are_refused(store: Path, tmp_path: Path) -> None:
    """One that is edited and keeps its name is not taken for the baseline; the same one named twice is one."""
    edited = tmp_path / "mine.toml"
    edited.write_text(policy_file("ninety-days").read_text(encoding="utf-8").replace("days = 30 ", "days = 5 "))
    for names in (("ninety-days", edited), (edited, "--baseline", "ninety-days")):
        assert "two policies of one name" in refused("rollout", *names, "--store", store)
    same = answer("rollout", "ninety-days", "--baseline", "ninety-days", "--store", store, "--draws", "2")
    assert [part["policy"] for part in same] == ["ninety-days"]
