"""A replay says what it could not use."""

from datetime import date
from pathlib import Path

from worlds import run, store_of


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
