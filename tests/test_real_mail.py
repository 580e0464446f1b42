"""Real mail, from the file to the answers: the numbers that two slow implementations agree on."""

from pathlib import Path

import polars as pl
import pytest
from worlds import answer, run

from enforcement.store import open_store


@pytest.fixture(scope="module")
def sample(real_data: Path) -> Path:
    return real_data / "mail-sample.mbox.gz"


def test_without_own_hosts(sample: Path, tmp_path: Path) -> None:
    """Import, fleet and replay of all 12,800 mails."""
    store = tmp_path / "traffic.duckdb"
    record = answer("import", sample, "--store", store)[0]
    assert (record["rows_read"], record["rows_stored"], record["rows_rejected"]) == (12_800, 12_786, 14)
    with open_store(store) as opened:
        reasons = opened.rejects()["reason"].unique().to_list()
        routes = dict(opened.query("select route, sum(messages)::bigint from traffic group by route").iter_rows())
    assert reasons == ["only mapi hops of on-premises Exchange servers"]
    assert routes == {"relayed": 11_554, "through cloud": 1_232}

    fleet = pl.DataFrame(answer("fleet", "--store", store), infer_schema_length=None)
    handed = fleet.filter(pl.col("messages") > 0)
    assert (handed["server"].n_unique(), handed["build"].n_unique()) == (734, 138)
    evidence = handed.group_by("evidence").agg(pl.col("messages").sum())
    assert dict(evidence.iter_rows()) == {"exact": 11_676, "rounded up": 1_110}

    result = answer("replay", "ninety-days", "--store", store)[0]
    assert (result["messages"]["subject"], result["servers_subject"], result["spells"]) == (3_885, 294, 376)
    assert [row["messages"] for row in result["by_stage"]] == [1_324, 230, 229, 110, 112, 126, 86, 1_668]
    totals = result["totals"]
    assert [totals[name] for name in ("at_once", "delayed", "rejected", "expired", "retries")] == [
        1_918, 222, 1_745, 0, 329,
    ]  # fmt: skip
    assert round(totals["delay_minutes"]["mean"], 3) == 20.473
    assert totals["accepted_vulnerable"] == 2_140


def test_with_own_hosts(sample: Path, tmp_path: Path) -> None:
    """What Exchange Online received; `ninety-days` on the direct hand-overs."""
    store = tmp_path / "traffic.duckdb"
    record = answer("import", sample, "--own-host", "*.protection.outlook.com", "--store", store)[0]
    assert (record["rows_read"], record["rows_stored"]) == (12_800, 1_126 + 106)
    with open_store(store) as opened:
        routes = dict(opened.query("select route, sum(messages)::bigint from traffic group by route").iter_rows())
    assert routes == {"direct": 1_126, "relayed": 106}

    direct = tmp_path / "direct.toml"
    shipped = Path("data/policies/ninety-days.toml").read_text(encoding="utf-8")
    lines = [line for line in shipped.splitlines() if not line.startswith("routes")]
    direct.write_text("routes = ['direct']\n" + "\n".join(lines), encoding="utf-8")
    result = answer("replay", direct, "--store", store)[0]
    assert (result["messages"]["subject"], result["servers_subject"], result["spells"]) == (597, 24, 33)
    totals = result["totals"]
    assert [totals[name] for name in ("at_once", "delayed", "rejected")] == [233, 22, 342]
    assert round(totals["delay_minutes"]["mean"], 3) == 16.364


def test_the_sample_shows_as_a_table(sample: Path, tmp_path: Path) -> None:
    """What a person reads has the same numbers."""
    store = tmp_path / "traffic.duckdb"
    assert "12,786 stored + 14 rejected" in run("import", sample, "--store", store).stdout
    assert "3,885 subject messages" in run("replay", "ninety-days", "--store", store).stdout
