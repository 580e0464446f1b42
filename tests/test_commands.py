"""The command line as users meet it: answers, exit codes, and one clear line for bad input."""

import csv
import gzip
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from policy_examples import EVERY_KEY
from worlds import answer, refused, run

MAIL = """From nobody@example.org Thu Jan  1 00:00:00 1970
Received: from a.example (192.0.2.1) by mx.contoso.example (192.0.2.2) with Microsoft SMTP Server
 (version=TLS1_2, cipher=TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384) id 15.1.2507.35; Tue, 1 Apr 2025 10:02:03 +0000
Date: Tue, 1 Apr 2025 10:02:00 +0000

"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small sample, made by the command."""
    path = tmp_path_factory.mktemp("commands") / "traffic.duckdb"
    record = answer("sample", "--messages", "20000", "--seed", "5", "--store", path)
    assert (record[0]["rows_read"], record[0]["rows_stored"], record[0]["rows_rejected"]) == (20_000, 20_000, 0)
    return path


def test_the_same_sample_again_changes_nothing(store: Path) -> None:
    assert answer("sample", "--messages", "20000", "--seed", "5", "--store", store)[0]["already_imported"] is True


def test_overlap_is_told_once(tmp_path: Path) -> None:
    """Of two sources that share days of servers, the second says so, in one line."""
    rows = "sent_at,server,build\n2026-01-31T07:05:09Z,mail.contoso.com,15.1.2507.61\n"
    (tmp_path / "a.csv").write_text(rows)
    (tmp_path / "b.csv").write_text(rows + rows.splitlines()[1])
    done = run("import", tmp_path / "a.csv", tmp_path / "b.csv", "--store", tmp_path / "store")
    (told,) = [line for line in done.stdout.splitlines() if "already" in line or "twice" in line]
    assert "already there from import 1: 1 (the same mail may now count twice)" in told


def test_replay_answers_as_scripts_rely_on(store: Path) -> None:
    """Every key, and the sums that must hold."""
    first, second = answer("replay", "ninety-days", "gentler", "--store", store)
    assert (first["policy"], second["policy"]) == ("ninety-days", "gentler")
    assert first["messages"]["read"] == 20_000 == sum(first["evidence"].values())
    outcomes = ("at_once", "delayed", "rejected", "expired")
    assert first["messages"]["subject"] == sum(first["totals"][name] for name in outcomes)
    for table, subject in (("by_day", "subject"), ("by_stage", "messages")):
        assert sum(row[subject] for row in first[table]) == first["messages"]["subject"]
        for name in outcomes:
            assert sum(row[name] for row in first[table]) == first["totals"][name]
    assert [row["stage"] for row in first["by_stage"]] == list(range(1, 9))
    assert first["totals"]["lost"] == first["totals"]["rejected"] + first["totals"]["expired"]
    assert set(first["totals"]["delay_minutes"]) == {"mean", "p50", "p95", "p99"}
    assert second["guardrails"][0]["state"] == "pass"
    assert {"spells", "servers_subject", "tenants_subject", "from", "to"} <= set(first)


def test_fleet_has_a_row_each_server_build_hop_and_route(store: Path) -> None:
    fleet = pl.DataFrame(answer("fleet", "--store", store), infer_schema_length=None)
    assert fleet.columns == [
        "server", "tenant", "build", "hop", "route", "product", "update", "evidence", "standing", "rule",
        "missing_since", "unsupported_since", "exploited_since", "days_behind", "vulnerable_from",
        "first_seen_on", "last_seen_on", "messages", "why",
    ]  # fmt: skip
    assert fleet.select("server", "build", "hop", "route").is_unique().all()
    assert fleet["messages"].sum() == 20_000
    assert fleet.filter(pl.col("route").is_null())["messages"].sum() == 0


def test_every_format_holds_the_same_fleet(store: Path) -> None:
    rows = answer("fleet", "--store", store)
    as_csv = list(csv.DictReader(io.StringIO(run("fleet", "--store", store, "--format", "csv").stdout)))
    assert [row["server"] for row in as_csv] == [row["server"] for row in rows]
    table = run("fleet", "--store", store).stdout
    assert f"shown 40 of {len(rows):,} rows" in table
    assert max(len(line) for line in table.splitlines()) <= 100


def test_a_table_without_a_terminal_has_no_colour(store: Path) -> None:
    assert "\x1b" not in run("replay", "ninety-days", "--store", store).stdout


def test_import_reads_mail_and_keeps_what_it_cannot_use(tmp_path: Path) -> None:
    box = tmp_path / "box.mbox"
    box.write_text(MAIL + MAIL.replace("id 15.1.2507.35", "id 15.1.99999999999.1"))
    store = tmp_path / "traffic.duckdb"
    record = answer("import", box, "--store", store)[0]
    assert (record["rows_read"], record["rows_stored"], record["rows_rejected"]) == (2, 1, 1)
    assert answer("import", box, "--store", store)[0]["already_imported"] is True
    told = refused("import", box, "--own-host", "mx.contoso.example", "--store", store)
    assert f"forget {record['import_id']}" in told
    assert "forgotten: 1 imports" in run("forget", str(record["import_id"]), "--store", store).stdout
    assert answer("import", box, "--own-host", "none.example", "--store", store)[0]["rows_rejected"] == 2


def test_one_bad_source_does_not_keep_the_others_out(tmp_path: Path) -> None:
    (tmp_path / "mail").mkdir()
    (tmp_path / "mail" / "a.mbox").write_text(MAIL)
    (tmp_path / "mail" / "b.mbox.gz").write_bytes(gzip.compress(MAIL.encode() * 200)[:200])
    store = tmp_path / "traffic.duckdb"
    told = refused("import", tmp_path / "mail", "--store", store)
    assert "b.mbox.gz" in told
    assert answer("replay", "ninety-days", "--store", store)[0]["messages"]["read"] == 1


def test_schema_is_json() -> None:
    assert "stages" in json.loads(run("schema").stdout)["properties"]


def test_check_tells_warnings_from_notes(tmp_path: Path) -> None:
    """A clean policy and one with notes end with 0, one with a warning with 1."""
    careless = tmp_path / "careless.toml"
    shipped = Path("data/policies/ninety-days.toml").read_text(encoding="utf-8")
    changed, n_changes = re.subn(r"(?m)^clear_after_days +=.*$", "clear_after_days = 1", shipped)
    assert n_changes == 1
    careless.write_text(changed, encoding="utf-8")
    assert run("check", "ninety-days", "four-steps").returncode == 0
    done = run("check", careless)
    assert done.returncode == 1
    assert "clear_after_days" in done.stdout


def test_a_broken_guardrail_is_exit_1(store: Path, tmp_path: Path) -> None:
    railed = tmp_path / "railed.toml"
    rail = "\n[[guardrails]]\nmeasure = 'lost_share_of_subject'\nper = 'total'\nat_most = 0.01\nmin_messages = 1\n"
    railed.write_text(Path("data/policies/ninety-days.toml").read_text() + rail)
    assert run("replay", railed, "--store", store).returncode == 1
    done = run("export", railed, "--out", tmp_path / "out", "--store", store)
    assert done.returncode == 1
    assert "lost_share_of_subject per total: fail" in done.stderr


def test_export_by_command(store: Path, tmp_path: Path) -> None:
    manifest = answer("export", "ninety-days", "--as-of", "2026-10-01", "--out", tmp_path / "out", "--store", store)
    assert manifest["serial"] == 2026100100
    assert (tmp_path / "out" / "calendar.csv").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("throttle = 5", "throttle = 70"), "throttle = 70"),
        (("days = 30", "days = -1"), "days = -1"),
        (("throttle = 5", "throtle = 5"), "did you mean 'throttle'"),
        (("\"product <> 'Exchange Server SE'\"", '"colour = 1"'), "colour"),
        (("\"product <> 'Exchange Server SE'\"", "\"build = read_text('/etc/passwd')\""), "read_text"),
        (("\"product <> 'Exchange Server SE'\"", '"(select 1) = 1"'), "select"),
        (("schema_version = 1", "schema_version = 2"), "schema_version = 2"),
        (("[notice]", "[notice"), "line"),
    ],
)
def test_a_bad_policy_is_one_clear_line(change: tuple[str, str], told: str, tmp_path: Path) -> None:
    policy = tmp_path / "bad.toml"
    assert change[0] in EVERY_KEY
    policy.write_text(EVERY_KEY.replace(*change, 1))
    line = refused("check", policy)
    assert line.startswith("enforcement: bad.toml")
    assert told in line


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("replay", "ninety-days", "--store", "none.duckdb"), "no such store"),
        (("replay", "nobodys-policy"), "ninety-days"),
        (("replay",), "POLICY"),
        (("replay", "ninety-days", "--from", "2026-13-01"), "is no day"),
        (("explain", "ninety-days", "--server", "x", "--at", "noon"), "is no time"),
        (("sample", "--messages", "0", "--store", "new.duckdb"), "expected 1 to"),
        (("import", "nowhere"), "nowhere"),
        (("import", "empty"), "empty"),
        (("import", "letters"), "letters"),
        (("import", "letters/text.mbox", "--times-rounded-to", "day"), "expected 'hour'"),
        (("forget",), "--before"),
        (("replay", "ninety-days", "--format", "xml"), "xml"),
        (("replay", "ninety-days", "--store", "letters/note.txt"), "not a store"),
    ],
)
def test_bad_usage_is_one_clear_line(arguments: tuple[str, ...], told: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "note.txt").write_text("no mail")
    (tmp_path / "letters" / "text.mbox").write_text(MAIL) if "text.mbox" in arguments[-1] else None
    assert told in refused(*arguments, cwd=tmp_path)


def test_a_ledger_that_overlaps_is_refused(store: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "pauses.csv"
    ledger.write_text("tenant,from,days\na.example,2026-01-01,10\na.example,2026-01-05,1\n")
    assert "pauses.csv" in refused("replay", "ninety-days", "--pauses", ledger, "--store", store)


def test_help_shows_examples() -> None:
    for command in ("sample", "import", "forget", "fleet", "check", "schema", "replay", "explain", "export", "report"):
        assert "Example:" in run(command, "--help").stdout


def test_no_command_waits_for_what_only_another_needs() -> None:
    """Charts, notebooks and compilers are loaded where they are used: each costs every start half a second."""
    heavy = {"altair", "nbconvert", "papermill", "numba", "Milter", "anywidget"}
    script = f"import sys, enforcement.__main__; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
