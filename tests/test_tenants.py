"""What administrators get: their servers and nobody else's, safe whatever they are called, true to the clock."""

import csv
import re
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pages import HOSTILE, small_store
from test_report import Page
from worlds import answer, refused, run, store_of

from enforcement.names import file_name
from enforcement.shipped import load_policy, policy_file
from enforcement.tenant_report import COLUMNS, TenantReports
from enforcement.tenants import LIST_NAME, reports_on, write_tenants
from enforcement.workbench import Setting

AS_OF = date(2026, 10, 31)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_store(tmp_path_factory.mktemp("tenants") / "traffic.duckdb")


@pytest.fixture(scope="module")
def known(store: Path) -> TenantReports:
    return reports_on("ninety-days", Setting(store=store))


@pytest.fixture(scope="module")
def out(known: TenantReports, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("for-tenants")
    write_tenants(known, folder)
    return folder


def test_every_server_is_told_what_the_calendar_says(store: Path, known: TenantReports, tmp_path: Path) -> None:
    """Stage, minutes and the day of the next stage are those that an export hands to production."""
    done = run("export", "ninety-days", "--store", store, "--out", tmp_path / "export")
    assert done.returncode == 0, done.stderr
    calendar = pl.read_csv(next((tmp_path / "export").glob("*calendar*.csv")), try_parse_dates=True)
    tomorrow = AS_OF + timedelta(days=1)
    under = known.rows.filter(pl.col("stage").is_not_null())
    assert set(under["server"]) == set(calendar["server"])
    for row in under.iter_rows(named=True):
        mine = calendar.filter(server=row["server"], cohort=row["cohort"]).sort("from_on")
        later = mine.filter(pl.col("stage") > row["stage"])
        assert row["next_on"] == (later["from_on"][0] if later.height else None)
        if row["next_on"] is None:
            assert mine["stage"].to_list() == [8]
            continue
        assert (row["next_stage"], row["next_block_minutes"]) == (later["stage"][0], later["block"][0])
        assert row["days_to_next_stage"] == (row["next_on"] - AS_OF).days
        if row["next_on"] > tomorrow:
            assert (mine["stage"][0], mine["throttle"][0]) == (row["stage"], row["throttle_minutes"])


def test_a_tenant_gets_its_own_servers_alone(known: TenantReports, out: Path) -> None:
    """No page or table holds a server of another tenant."""
    servers = known.rows.select("tenant", "server").unique()
    for tenant in known.tenants[:20]:
        name = file_name(tenant)
        text = (out / f"{name}.html").read_text(encoding="utf-8")
        others = servers.filter(pl.col("tenant") != tenant)["server"]
        assert not [server for server in others if re.search(rf"(?<![\w.-]){re.escape(server)}(?![\w.-])", text)]
        table = pl.read_csv(out / f"{name}.csv")
        assert set(table["server"]) == set(servers.filter(tenant=tenant)["server"])
        assert table.columns == list(COLUMNS)


def test_a_worked_example(tmp_path: Path) -> None:
    """A server first seen on 2024-01-10 with a build that was out of date: told day by day on 2024-02-12."""
    rows = [(f"2024-01-{day:02}T10:00", "mx.contoso.example", "15.1.2507.6") for day in range(10, 32)]
    rows += [("2024-02-12T10:00", "mx.contoso.example", "15.1.2507.6"),
             ("2024-02-12T10:05", "mx.fabrikam.example", "15.1.2507.35")]  # fmt: skip
    store = store_of(tmp_path / "s.duckdb", rows)
    ledger = tmp_path / "pauses.csv"
    ledger.write_text("tenant,from,days\ncontoso.example,2024-01-20,3\n", encoding="utf-8")
    policy = tmp_path / "mine.toml"
    text = policy_file("ninety-days").read_text(encoding="utf-8")
    policy.write_text(text + "\n[pause]\ndays_per_year = 90\n", encoding="utf-8")
    listed = answer("tenants", policy, "--store", store, "--pauses", ledger, "--out", tmp_path / "out")
    assert listed == [{"tenant": "contoso.example", "servers": 1, "next_on": "2024-02-22",
                       "page": "contoso.example.html", "table": "contoso.example.csv"}]  # fmt: skip
    with (tmp_path / "out" / "contoso.example.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    # 33 days since 10 January, three of them paused: day 30 of the clock, the first of stage 2.
    told = {"first_detected_on": "2024-01-10", "clock_days": "30", "stage": "2", "phase": "throttle",
            "throttle_minutes": "5", "block_minutes": "0", "next_stage": "3", "next_on": "2024-02-22",
            "days_to_next_stage": "10", "pause_days_used": "3", "pause_days_left": "87", "evidence": "exact",
            "update": "Exchange Server 2016 CU23", "rule": "unpatched"}  # fmt: skip
    assert {key: row[key] for key in told} == told
    nearest = "Exchange Server 2016 CU23 Nov23SU (15.1.2507.35, KB5032147)"
    assert row["recommended_builds"] == f"{nearest}, accepted until 2024-06-09 as far as is known"
    page = Page(tmp_path / "out" / "contoso.example.html").text
    assert "one server of contoso.example runs a version that is out of date" in page
    assert "mail is delayed for up to 5 min of each hour" in page
    assert "three days were used until 2024-02-12 and 87 days are left" in page


TWO_CLOCKS = """
schema_version = 1
name = "two-clocks"
rules = [{ name = "unsupported", since = "unsupported_since" }, { name = "unpatched", since = "missing_since" }]
cohorts = [
  { name = "2013", products = ["Exchange Server 2013"], starts_on = 2024-01-01 },
  { name = "2016", products = ["Exchange Server 2016"], starts_on = 2024-01-01 },
]
stages = [{ days = 30 }, { days = 30, throttle = 10 }, { block = 60 }]
[pause]
days_per_year = 90
"""


def test_each_build_has_the_clock_of_its_own_cohort(tmp_path: Path) -> None:
    """One name hides a server of 2013, blocked since 1 March, and one of 2016, first seen on 25 May."""
    rows = [(f"2024-{month:02}-29T10:00", "mx.contoso.example", "15.0.1497.48") for month in range(1, 6)]
    rows += [(f"2024-05-{day}T11:00", "mx.contoso.example", "15.1.2507.6") for day in (25, 29)]
    store, policy = store_of(tmp_path / "s.duckdb", [("2024-01-01T10:00", *rows[0][1:]), *rows]), tmp_path / "p.toml"
    policy.write_text(TWO_CLOCKS)
    known = reports_on(str(policy), Setting(store=store))
    told = known.rows.sort("build").select("product", "cohort", "stage", "block_minutes", "clock_days", "next_on")
    assert told.rows() == [
        ("Exchange Server 2013", "2013", 3, 60, 149, None),
        ("Exchange Server 2016", "2016", 1, 0, 4, date(2024, 6, 24)),
    ]
    write_tenants(known, tmp_path / "out")
    assert "mail is refused for up to 60 min of each hour" in Page(tmp_path / "out" / "contoso.example.html").text


def test_patched_while_two_clocks_run_a_server_shows_the_harder_one(tmp_path: Path) -> None:
    """The build is accepted; that of 2013, which is blocked, is what still has to be cleared."""
    rows = [("2024-01-01T10:00", "mx.contoso.example", "15.0.1497.48")]
    rows += [("2024-05-25T11:00", "mx.contoso.example", "15.1.2507.6")]
    rows += [("2024-05-29T10:00", "mx.contoso.example", "15.0.1497.48")]
    rows += [("2024-06-01T10:00", "mx.contoso.example", "15.2.1544.11")]
    policy = tmp_path / "p.toml"
    policy.write_text(TWO_CLOCKS)
    known = reports_on(str(policy), Setting(store=store_of(tmp_path / "s.duckdb", rows)))
    assert known.rows.select("update", "cohort", "stage").rows() == [("Exchange Server 2019 CU14 Apr24HU", "2013", 3)]


def test_days_of_pause_count_once_they_are_granted(tmp_path: Path) -> None:
    """A quota of 90 days: 12 gone by, 58 granted for the summer, and none of the next year; 20 can still be asked."""
    store, policy = tmp_path / "s.duckdb", tmp_path / "p.toml"
    store_of(store, [("2024-01-01T10:00", "mx.contoso.example", "15.0.1497.48"),
                     ("2024-05-29T10:00", "mx.contoso.example", "15.0.1497.48")])  # fmt: skip
    policy.write_text(TWO_CLOCKS)
    ledger = tmp_path / "pauses.csv"
    of = [("2024-03-01", 12), ("2024-07-01", 58), ("2025-01-01", 9)]
    ledger.write_text("\n".join(["tenant,from,days", *(f"contoso.example,{start},{days}" for start, days in of)]))
    known = reports_on(str(policy), Setting(store=store, pauses=ledger))
    assert known.rows.select("pause_days_used", "pause_days_left").rows() == [(12, 20)]
    write_tenants(known, tmp_path / "out")
    told = Page(tmp_path / "out" / "contoso.example.html").text
    assert "were used until 2024-05-29, 58 more are granted for later, and 20 days are left" in told


def test_names_from_outside_are_letters(known: TenantReports, out: Path) -> None:
    """A tenant that is markup has a page under a harmless name, in which nothing of it is markup, and a safe table."""
    assert HOSTILE in known.tenants
    name = file_name(HOSTILE)
    assert re.fullmatch(r"[a-z0-9-]+_[0-9a-f]{12}", name)
    page = Page(out / f"{name}.html")
    assert not [tag for tag, _ in page.elements if tag == "script"]
    assert not [attributes for _, attributes in page.elements if any(key.startswith("on") for key in attributes)]
    (picture,) = (attributes for tag, attributes in page.elements if tag == "img")
    assert str(picture["src"]).startswith("data:image/svg+xml;base64,")
    assert " ".join(HOSTILE.split()) in page.text
    for path in out.glob("*.csv"):
        assert not re.search(r"(?m)^[=+@]", path.read_text(encoding="utf-8"))


@given(st.lists(st.text(min_size=1, max_size=255), unique=True, max_size=20))
def test_file_names_are_safe_and_differ(tenants: list[str]) -> None:
    """Whatever tenants are called: a name that every system takes, in no other folder, and each its own."""
    names = [file_name(tenant) for tenant in tenants]
    for name in names:
        assert re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,99}", name)
        assert ".." not in name
        assert not re.fullmatch(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", name)
    assert len(set(names)) == len(names)


def test_a_name_cannot_be_chosen_to_be_anothers() -> None:
    assert file_name(file_name("a b")) != file_name("a b")


def test_what_is_no_longer_needed_goes(known: TenantReports, tmp_path: Path) -> None:
    """The files of tenants that have done their part go; other files in the folder, and other folders, stay."""
    write_tenants(known, tmp_path)
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    outside = tmp_path.parent / "outside.html"
    outside.write_text("mine", encoding="utf-8")
    path = tmp_path / LIST_NAME
    path.write_text(path.read_text(encoding="utf-8") + "x,1,,../outside.html,notes.txt\n", encoding="utf-8")
    fewer = replace(known, rows=known.of(known.tenants[0]))
    written = write_tenants(fewer, tmp_path)
    name = file_name(known.tenants[0])
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")} == {
        f"{name}.html", f"{name}.csv", LIST_NAME, "notes.txt",
    }  # fmt: skip
    assert written.removed == 2 * (len(known.tenants) - 1)
    assert outside.is_file()


def test_a_folder_of_other_things_is_not_filled(store: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    assert "holds something else" in refused("tenants", "ninety-days", "--store", store, "--out", tmp_path)


def test_one_tenant_alone(store: Path, known: TenantReports, tmp_path: Path) -> None:
    """A tenant that has nothing to do has a page that says so; one that nobody knows is an error."""
    fine = min(set(known.n_seen) - set(known.tenants))
    (row,) = answer("tenants", "ninety-days", "--store", store, "--out", tmp_path, "--tenant", fine)
    assert "nothing is to be done" in Page(tmp_path / row["page"]).text
    assert not (tmp_path / LIST_NAME).exists()
    line = refused("tenants", "ninety-days", "--store", store, "--out", tmp_path, "--tenant", "nobody.example")
    assert "no tenant 'nobody.example' in sight on 2026-10-31" in line


def test_the_policy_is_named_as_people_know_it(out: Path, known: TenantReports) -> None:
    assert load_policy("ninety-days").title in Page(out / f"{file_name(known.tenants[0])}.html").text


def test_pauses_that_do_not_count_are_told(tmp_path: Path) -> None:
    """The policy grants none, and nobody has seen the tenant: both are said, on standard error."""
    store = store_of(tmp_path / "s.duckdb", [("2024-03-01T10:00", "mail.contoso.example", "15.0.1497.48")])
    ledger = tmp_path / "pauses.csv"
    ledger.write_text("tenant,from,days\ncontosso.example,2024-02-01,5\n")
    done = run("tenants", "ninety-days", "--store", store, "--pauses", ledger, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "pause of contosso.example from 2024-02-01: 5 days are not granted" in done.stderr
    assert "pause of contosso.example: the history has no such name" in done.stderr
