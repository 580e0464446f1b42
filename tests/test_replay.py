"""A replay says what it could not use."""

from datetime import date
from pathlib import Path

from worlds import run, store_of

from enforcement.workbench import Setting, replay_policies


def test_pauses_and_exemptions_of_unknown_names_are_said(tmp_path: Path) -> None:
    """A slip of the pen in a ledger or an exemption would leave a hospital unprotected without a word."""
    store = store_of(tmp_path / "traffic.duckdb", [("2024-01-01T10:00", "mail.contoso.example", "15.0.1497.48")])
    ledger = tmp_path / "pauses.csv"
    ledger.write_text(f"tenant,from,days\nnosuch.example,{date(2024, 1, 1)},3\ncontoso.example,2024-01-01,1\n")
    policy = tmp_path / "sparing.toml"
    shipped = Path("data/policies/ninety-days.toml").read_text(encoding="utf-8")
    policy.write_text(f"{shipped}\n[[exemptions]]\nserver = 'mial.contoso.example'\nuntil = 2026-01-01\nreason = 'x'\n")
    told = run("replay", policy, "--pauses", ledger, "--store", store).stderr
    assert "pause of nosuch.example" in told
    assert "exemption of mial.contoso.example" in told
    assert "pause of contoso.example" not in told


def test_mail_that_is_not_subject_is_counted_by_its_reason(tmp_path: Path) -> None:
    """One message for each reason, in the order in which a decision asks; the last server's message is subject."""
    vulnerable, current = "15.0.1497.48", "15.2.1544.4"
    store = store_of(
        tmp_path / "traffic.duckdb",
        [
            ("2024-03-01T10:00", "cloud.a.example", "15.20.7228.32"),
            ("2024-03-01T10:00", "odd.a.example", "15.3.1.1"),
            ("2024-03-01T10:00", "new.a.example", current),
            ("2024-03-01T10:00", "none.a.example", "15.1.2507.6"),
            ("2024-03-01T10:00", "later.b.example", vulnerable),
            ("2024-03-01T10:00", "now.c.example", vulnerable),
        ],
    )
    policy = tmp_path / "narrow.toml"
    shipped = Path("data/policies/ninety-days.toml").read_text(encoding="utf-8")
    before, rest = shipped.split("cohorts", 1)
    policy.write_text(
        before
        + """cohorts = [
  { name = "b", products = ["Exchange Server 2013"], tenants = ["b.example"], starts_on = 2024-06-01 },
  { name = "c", products = ["Exchange Server 2013"], starts_on = 2000-01-01 },
]
"""
        + rest[rest.index("]\n") + 2 :],
        encoding="utf-8",
    )
    (result,) = replay_policies([str(policy)], Setting(store=store))
    assert dict(result.untouched.iter_rows()) == {
        "Exchange Online itself": 1,
        "build not known": 1,
        "not vulnerable that day": 1,
        "in no cohort": 1,
        "cohort not started": 1,
    }
    assert result.totals["subject"] == 1


def test_a_server_may_become_subject_on_the_last_day(tmp_path: Path) -> None:
    """Support of 2016 ended on 14 October 2025: what comes on the last day of the history, the 15th, is subject."""
    rows = [(f"2025-10-{day}T10:00", "mx.a.example", "15.1.2507.61") for day in (14, 15)]
    (result,) = replay_policies(["ninety-days"], Setting(store=store_of(tmp_path / "traffic.duckdb", rows)))
    assert (result.totals["read"], result.totals["subject"], result.n_spells) == (2, 1, 1)
