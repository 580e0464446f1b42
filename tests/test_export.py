"""An export: the calendar of servers under enforcement, the manifest, all files or none."""

import hashlib
import json
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from worlds import run, store_of

from enforcement.export.tables import read_identities
from enforcement.export.write import ExportError
from enforcement.exporting import Order, export_policy
from enforcement.importers.sources import find_sources
from enforcement.intake import import_sources
from enforcement.policy_text import parse_policy
from enforcement.workbench import Setting

SERVER = "mail.contoso.example"
EX2013 = "15.0.1497.48"
PATCHED = "15.1.2507.35"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """One server vulnerable since 2024-01-01 without end, one remediated on 2024-01-20."""
    return store_of(
        tmp_path / "traffic.duckdb",
        [
            ("2024-01-01T10:00", SERVER, EX2013),
            ("2024-02-10T10:00", SERVER, EX2013),
            ("2024-01-01T10:00", "mail.fabrikam.example", EX2013),
            ("2024-01-20T10:00", "mail.fabrikam.example", PATCHED),
        ],
    )


def test_the_calendar_has_each_coming_stage_of_a_server_under_enforcement(store: Path, tmp_path: Path) -> None:
    """Clock 0 on 2024-01-01; as of 2024-02-10 (clock 40) stage 3 holds until clock 50, 2024-02-20, and so on.
    Paused from 2024-02-15 to 02-24 (ten days): the clock stands at 45, and later stages come ten days later."""
    policy = tmp_path / "pausing.toml"
    shipped = Path("data/policies/ninety-days.toml").read_text(encoding="utf-8")
    policy.write_text(shipped.replace("ninety-days", "pausing") + "\n[pause]\ndays_per_year = 90\n", encoding="utf-8")
    ledger = tmp_path / "pauses.csv"
    ledger.write_text("tenant,from,days\ncontoso.example,2024-02-15,10\n", encoding="utf-8")
    made = export_policy(
        str(policy),
        Setting(store=store, to_on=date(2024, 2, 10), pauses=ledger),
        Order(out=tmp_path / "out"),
    )
    columns = ("server", "from_on", "until_on", "stage", "throttle", "block", "running", "clock_at_start")
    assert made.calendar.select(columns).rows() == [
        (SERVER, date(2024, 2, 11), date(2024, 2, 15), 3, 10, 0, True, 41),
        (SERVER, date(2024, 2, 15), date(2024, 2, 25), 3, 10, 0, False, 45),
        (SERVER, date(2024, 2, 25), date(2024, 3, 1), 3, 10, 0, True, 45),
        (SERVER, date(2024, 3, 1), date(2024, 3, 11), 4, 20, 0, True, 50),
        (SERVER, date(2024, 3, 11), date(2024, 3, 21), 5, 30, 5, True, 60),
        (SERVER, date(2024, 3, 21), date(2024, 3, 31), 6, 30, 10, True, 70),
        (SERVER, date(2024, 3, 31), date(2024, 4, 10), 7, 30, 20, True, 80),
        (SERVER, date(2024, 4, 10), None, 8, 0, 60, True, 90),
    ]
    assert pl.read_parquet(tmp_path / "out" / "calendar.parquet").equals(made.calendar)


def test_the_manifest_vouches_for_every_file(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_policy("ninety-days", Setting(store=store), Order(out=out, revision=3))
    manifest = json.loads((out / "manifest.json").read_text())
    there = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert there == {*manifest["files"], "manifest.json"}
    for name, entry in manifest["files"].items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == entry["sha256"]
    assert manifest["serial"] == 2024021003
    assert (manifest["valid_from"], manifest["not_after"]) == ("2024-02-11", "2024-02-24")
    again = parse_policy((out / "policy.toml").read_text(), source="policy.toml")
    assert again.name == "ninety-days"


def test_the_same_inputs_give_the_same_bytes(store: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        export_policy("ninety-days", Setting(store=store), Order(out=tmp_path / name))
    made = [path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file()]
    assert len(made) > 5
    for path in made:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes()


def test_an_export_replaces_an_export_and_nothing_else(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_policy("ninety-days", Setting(store=store), Order(out=out))
    (tmp_path / "current").symlink_to(out)
    export_policy("gentler", Setting(store=store), Order(out=tmp_path / "current"))
    assert (tmp_path / "current").is_symlink()
    assert json.loads((out / "manifest.json").read_text())["policy"] == "gentler"
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "manifest.json").write_text("{}")  # a manifest of something else
    for folder in (mine, out):
        (folder / "letter.txt").write_text("keep me")
        with pytest.raises(ExportError, match="is not an export alone"):
            export_policy("ninety-days", Setting(store=store), Order(out=folder))
        assert (folder / "letter.txt").read_text() == "keep me"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_broken_guardrail_refuses_the_export_unless_overridden(store: Path, tmp_path: Path) -> None:
    """Every message of the first 30 days is delivered, so "at most none delivered" fails; the override is recorded."""
    policy = tmp_path / "railed.toml"
    rail = "\n[[guardrails]]\nmeasure = 'accepted_vulnerable_share_of_mail'\nper = 'total'\n"
    rail += "at_most = 0.0\nmin_messages = 1\n"
    policy.write_text(Path("data/policies/ninety-days.toml").read_text() + rail)
    with pytest.raises(ExportError, match="accepted_vulnerable_share_of_mail per total: fail"):
        export_policy(str(policy), Setting(store=store), Order(out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    made = export_policy(str(policy), Setting(store=store), Order(out=tmp_path / "out", override="agreed with legal"))
    assert made.manifest["override"] == "agreed with legal"
    assert made.manifest["guardrails"][0]["state"] == "fail"


def test_pauses_beyond_the_quota_refuse_the_export(store: Path, tmp_path: Path) -> None:
    """The policy grants none, so five days asked for are five too many; no override helps."""
    ledger = tmp_path / "pauses.csv"
    ledger.write_text("tenant,from,days\ncontoso.example,2024-01-15,5\n")
    with pytest.raises(ExportError, match="5 pause days"):
        export_policy(
            "ninety-days", Setting(store=store, pauses=ledger), Order(out=tmp_path / "out", override="please")
        )
    assert not (tmp_path / "out").exists()


def test_a_policy_that_no_mail_server_could_carry_out_is_refused(store: Path, tmp_path: Path) -> None:
    policy = tmp_path / "relayed.toml"
    text = Path("data/policies/ninety-days.toml").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("routes")]
    policy.write_text("routes = ['relayed']\n" + "\n".join(lines), encoding="utf-8")
    with pytest.raises(ValueError, match="mail servers enforce direct hand-overs only"):
        export_policy(str(policy), Setting(store=store), Order(out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_identity_of_a_server_that_nobody_has_seen_is_refused(store: Path, tmp_path: Path) -> None:
    identities = tmp_path / "identities.csv"
    identities.write_text(f"identity,server\n192.0.2.1,{SERVER}\n192.0.2.2,mail.contosso.example\n")
    with pytest.raises(ValueError, match=r"not in the store: 1, the first 'mail\.contosso\.example'"):
        export_policy("ninety-days", Setting(store=store), Order(out=tmp_path / "out", identities=identities))


def test_an_export_says_what_mail_servers_leave_out_and_whom_postfix_does_not_know(tmp_path: Path) -> None:
    """Of four subject messages one came directly in the last 30 days, one the day before them; two were relayed."""
    table = tmp_path / "mail.csv"
    rows = [
        ("2024-01-11", SERVER, "direct"),
        ("2024-01-12", SERVER, "direct"),
        ("2024-02-10", SERVER, "relayed"),
        ("2024-02-10", "mail.fabrikam.example", "relayed"),
    ]
    lines = [f"{day}T10:00:00Z,{server},{EX2013},{route}" for day, server, route in rows]
    lines.append(f"2024-02-10T10:00:00Z,mail.fabrikam.example,{PATCHED},direct")  # not vulnerable: not subject
    table.write_text("\n".join(["sent_at,server,build,route", *lines]) + "\n")
    store, identities = tmp_path / "mail.duckdb", tmp_path / "identities.csv"
    assert run("import", table, "--store", store).returncode == 0
    identities.write_text(f"identity,server\n192.0.2.1,{SERVER}\nsha256:{'ab' * 32},{SERVER}\n")
    done = run("export", "ninety-days", "--store", store, "--out", tmp_path / "out", "--identities", identities)
    assert "leave out 2 (66.7%) of the 3 subject messages of the last 30 days (2 relayed)" in done.stdout
    assert "2 identities of 1 server: 1 address, 1 certificate." in done.stdout
    assert "Certificates do not count in Postfix" in done.stdout
    identities.write_text(f"identity,server\n192.0.2.1,{SERVER}\n")
    done = run("export", "ninety-days", "--store", store, "--out", tmp_path / "out", "--identities", identities)
    assert "1 identity of 1 server: 1 address." in done.stdout
    assert "Certificates" not in done.stdout


def test_two_spellings_of_one_peer_are_one_identity() -> None:
    """A target meets an IPv4 address as such, and never tells the scope of an address."""
    text = f"identity,server\n192.0.2.1,{SERVER}\n::ffff:192.0.2.1/128,mail.fabrikam.example\n"
    with pytest.raises(ValueError, match=r"ids line 3: 192\.0\.2\.1 is mail\.contoso\.example above"):
        read_identities(text, source="ids")
    with pytest.raises(ValueError, match=r"ids line 2: 'fe80::1%eth0' \(expected an address"):
        read_identities(f"identity,server\nfe80::1%eth0,{SERVER}\n", source="ids")


def test_a_stage_that_would_come_before_its_notice_refuses_the_export(store: Path, tmp_path: Path) -> None:
    """By the ledger the tenant was told five days before; 30 are asked for. Without a ledger it is relied on."""
    policy = tmp_path / "noticed.toml"
    notice = (
        "\n[notice]\nannouncement_url = 'https://mail.example/'\ngeneral_days_before = 0\ntargeted_days_before = 30\n"
    )
    policy.write_text(Path("data/policies/ninety-days.toml").read_text(encoding="utf-8") + notice, encoding="utf-8")
    ledger = tmp_path / "sent.csv"
    ledger.write_text("notice,cohort,tenant,sent_on\ntargeted,all,contoso.example,2024-02-05\n")
    setting = Setting(store=store)
    with pytest.raises(ExportError, match="not exported: "):
        export_policy(str(policy), setting, Order(out=tmp_path / "out", notices_sent=ledger))
    made = export_policy(str(policy), setting, Order(out=tmp_path / "out"))
    assert made.relies_on
    assert any(name.startswith("notices/tenants/contoso.example") for name in made.manifest["files"])


def test_a_clock_that_starts_after_the_last_mail_is_of_a_later_export(store: Path, tmp_path: Path) -> None:
    """The last hand-over is of 2024-02-10; Exchange Online has found the server four days later."""
    report = tmp_path / "report.csv"
    report.write_text("ServerFQDN,Build,FirstDetectedDate\nmail.late.example,15.0.1497.48,2024-02-14\n")
    import_sources(store, find_sources(report))
    made = export_policy("ninety-days", Setting(store=store), Order(out=tmp_path / "out"))
    assert (made.manifest["as_of"], set(made.calendar["server"])) == ("2024-02-10", {SERVER})
    later = Setting(store=store, to_on=date(2024, 2, 14))
    known = export_policy("ninety-days", later, Order(out=tmp_path / "later")).calendar
    assert known.filter(server="mail.late.example").row(0, named=True)["clock_at_start"] == 1


def test_it_says_how_much_mail_servers_leave_out(tmp_path: Path) -> None:
    """As of 02-10 the last 30 days begin on 01-12: 8 of 12 subject messages are relayed or came through the cloud."""
    old, table, store = "2024-01-11T10:00,mx.a.example,direct,100", tmp_path / "t.csv", tmp_path / "s"
    rows = [old, "2024-01-12T10:00,mx.a.example,direct,4", "2024-01-20T10:00,mx.a.example,relayed,5",
            "2024-02-10T10:00,mx.b.example,through cloud,3"]  # fmt: skip
    for n_rows, said in (
        (
            4,
            "Mail servers leave out 8 (66.7%) of the 12 subject messages of the last 30 days (5 relayed",
        ),
        (1, "No message of the last 30 days is subject to the policy."),
    ):
        lines = [f"{row},{EX2013}" for row in rows[:n_rows]] + [f"2024-02-10T11:00,mx.c.example,direct,7,{PATCHED}"]
        table.write_text("\n".join(["sent_at,server,route,messages,build", *lines]))
        store.unlink(missing_ok=True)
        import_sources(store, find_sources(table))
        made = export_policy("ninety-days", Setting(store=store), Order(out=tmp_path / "out"))
        assert made.reach[0].startswith(said)
    for how in ("table", "json"):
        done = run("export", "ninety-days", "--store", store, "--out", tmp_path / "out", "--format", how)
        assert made.reach[0] in (done.stdout if how == "table" else done.stderr)
