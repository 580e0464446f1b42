"""Policies held against a baseline: the same figures as their replays give, and nothing added or lost on the way."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from stores import days_of
from worlds import answer, refused, run, store_of

from enforcement import answers, story, workbench
from enforcement.comparison import Comparison, compare
from enforcement.differences import MEASURES, differences
from enforcement.policy import NO_POLICY, Cohort, Rule, Since
from enforcement.shipped import load_catalogue, load_policy
from enforcement.standing import standings
from enforcement.store import open_store
from enforcement.workbench import Setting

BUILDS = ("15.1.2507.6", "15.0.1497.48", "15.2.1118.7", "15.2.1544.36", "8.3.298.1", "15.2.2562.17")
ROWS = [
    (f"2026-0{month}-{day:02}T{hour:02}:{minute:02}", f"mx{server}.tenant{server % 4}.example", build)
    for month in (3, 4, 5, 6)
    for day in range(1, 29, 2)
    for hour, minute in ((3, 1), (9, 17), (14, 44))
    for server, build in enumerate(BUILDS, start=1)
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small store."""
    return store_of(tmp_path_factory.mktemp("store") / "traffic.duckdb", ROWS)


def found(store: Path, *policies: str, baseline: str | None = None) -> Comparison:
    return workbench.compare_policies(policies, Setting(store=store), baseline=baseline)


def of(table: pl.DataFrame, part: str, column: str) -> dict[str, float]:
    """Add up a column by measure."""
    summed = table.filter(part=part).group_by("measure").agg(pl.col(column).sum())
    return dict(summed.iter_rows())


def test_values_are_those_of_the_replays(store: Path) -> None:
    """In all, by product and by decile; the baseline's too; the difference is what lies between."""
    compared = found(store, "ninety-days", "gentler", "stricter")
    table = differences(compared)
    assert table["policy"].unique().sort().to_list() == ["gentler", "stricter"]
    assert compared.baseline is not None
    for proposal in compared.proposals:
        own = table.filter(policy=proposal.name)
        for part in ("all", "product", "decile"):
            for measure in MEASURES:
                assert of(own, part, "value")[measure] == proposal.replay.totals[measure]
                assert of(own, part, "baseline")[measure] == compared.baseline.replay.totals[measure]
        assert (own["difference"] == own["value"] - own["baseline"]).all()
    assert table.filter(part="all", measure="lost")["difference"].to_list()[0] < 0  # gentler loses less


def test_more_than_a_tenth_lost_means_the_same_everywhere(store: Path) -> None:
    """Of 100 messages 10 are a tenth and 11 are more: for tenants and servers, in tables, answers and sentences."""
    replay = workbench.replay_policies(["ninety-days"], Setting(store=store))[0]
    lost = pl.Series("lost", [0, 10, 11, 100])
    tenants, servers = (
        pl.concat([hit.head(1)] * 4).with_columns(lost.cast(hit["lost"].dtype), read=pl.lit(100, hit["read"].dtype))
        for hit in (replay.tenants, replay.servers)
    )
    made = replace(replay, tenants=tenants, servers=servers)
    compared = compare([made], baseline=NO_POLICY)
    values = of(differences(compared), "all", "value")
    for unit in ("tenants", "servers"):
        assert values[f"{unit} with over a tenth of their mail lost"] == 2
        assert answers.replay_answer(made)["hit"][unit]["over_a_tenth_lost"] == 2
    assert "of 4 tenants; 2 lose more than a tenth" in story.five_figures(compared).text.replace("\xa0", " ")
    assert "2 of 4" in story.side_by_side(compared).text.replace("\xa0", " ")


def test_against_no_policy_all_is_delivered_at_once(store: Path) -> None:
    """Nothing is delayed, lost or hit; what is vulnerable is let through."""
    compared = found(store, "ninety-days", baseline="none")
    totals = compared.first.replay.totals
    in_all = of(differences(compared), "all", "baseline")
    assert in_all.pop("at_once") == totals["subject"]
    assert in_all.pop("accepted_vulnerable") == totals["vulnerable"]
    assert not any(in_all.values())


def test_a_policy_against_itself_changes_nothing(store: Path) -> None:
    """Every difference is 0, and both keep their names."""
    table = differences(found(store, "ninety-days", baseline="ninety-days"))
    assert (table["difference"] == 0).all()
    assert table["value"].sum() > 0


def test_the_command_answers_scripts_and_people(store: Path) -> None:
    """JSON has an entry a proposal; the table says what each figure is of."""
    (told,) = answer("compare", "ninety-days", "gentler", "--store", store)
    assert (told["policy"], told["baseline"]) == ("gentler", "ninety-days")
    assert {row["measure"] for row in told["totals"]} >= {*MEASURES, "tenants with any lost"}
    assert {row["product"] for row in told["by_product"]} >= {"Exchange Server 2013", "Exchange Server 2016"}
    assert len({row["decile"] for row in told["by_decile"]}) == 4  # as many as there are tenants
    shown = run("compare", "ninety-days", "gentler", "--store", store)
    assert shown.returncode == 0
    assert "gentler against ninety-days" in shown.stdout
    assert "goes by the rules of ninety-days" in shown.stdout


def test_one_policy_alone_is_refused(store: Path) -> None:
    assert "nothing to be compared with" in refused("compare", "ninety-days", "--store", store)


def test_policies_of_one_name_do_not_write_over_each_other(store: Path, tmp_path: Path) -> None:
    told = refused("replay", "ninety-days", "ninety-days", "--store", store, "--out", tmp_path / "out")
    assert "2 policies are named 'ninety-days'" in told
    assert not (tmp_path / "out").exists()


def test_the_second_pass_goes_out_as_parquet(store: Path, tmp_path: Path) -> None:
    """Who is hit in which stage and when; servers' stages add up to what the stages hold."""
    done = run("replay", "ninety-days", "--store", store, "--out", tmp_path, "--format", "json")
    assert done.returncode == 0, done.stderr
    place = tmp_path / "ninety-days"
    stages, servers = pl.read_parquet(place / "by_stage.parquet"), pl.read_parquet(place / "server_stages.parquet")
    measures = ["at_once", "delayed", "rejected", "expired", "retries"]
    again = servers.group_by("stage", "phase").agg(pl.col(measures).sum()).sort("stage")
    assert again.equals(stages.filter(pl.col("messages") > 0).select("stage", "phase", *measures))
    entries = pl.read_parquet(place / "entries.parquet")
    assert {"server", "tenant", "stage", "phase", "enters_on"} <= set(entries.columns)
    assert (
        pl.read_parquet(place / "tenants.parquet")["lost"].sum()
        == servers.select(pl.col("rejected") + pl.col("expired")).to_series().sum()
    )


def test_the_risk_left_is_measured_by_one_set_of_rules(store: Path) -> None:
    """Policies with other rules are measured by the baseline's, message by message as the rules say it."""
    few = load_policy("ninety-days").model_copy(
        update={"name": "few", "rules": (Rule(name="unsupported", since=Since.UNSUPPORTED_SINCE),)}
    )
    compared = workbench.compare_policies(["ninety-days", few], Setting(store=store))
    policies = [each.replay.policy for each in compared.all]
    assert policies[0].rules != policies[1].rules
    with open_store(store) as opened:
        history = opened.history()
        measure = standings(history.builds, load_catalogue(), policies[0]).select("build_id", "vulnerable_from")
        days = days_of(history).join(measure, on="build_id")
        vulnerable = days.filter(pl.col("vulnerable_from") <= pl.col("day"))["messages"].sum()
        own = workbench.replay_policies([few], Setting(store=store))[0]
        assert 0 < own.totals["vulnerable"] < vulnerable
        for each in compared.all:
            assert each.replay.risk_by == "ninety-days"
            assert each.replay.totals["vulnerable"] == vulnerable
            assert each.replay.tenants["vulnerable"].sum() == vulnerable
            assert each.replay.tenants["accepted_vulnerable"].sum() == each.replay.totals["accepted_vulnerable"]
            assert each.replay.by_group["accepted_vulnerable"].sum() == each.replay.totals["accepted_vulnerable"]
    other = compared.proposals[0].replay
    assert other.totals["lost"] == own.totals["lost"]


def test_what_is_lost_without_being_a_risk_leaves_the_risk(store: Path) -> None:
    """A build that becomes a risk in the middle of a spell: what was lost before lowers no risk, and counts once."""
    late = load_policy("ninety-days").model_copy(
        update={"name": "late", "rules": (Rule(name="later", since=Since.UNSUPPORTED_SINCE, after_days=199),)}
    )
    (own,) = workbench.replay_policies(["block-only"], Setting(store=store))
    (since,) = workbench.replay_policies(["block-only"], Setting(store=store, from_on=date(2026, 5, 2)))
    (result,) = workbench.replay_policies(["block-only"], Setting(store=store), risk_by=late)
    whole = dict(own.servers.select("server", "lost").iter_rows())
    later = dict(since.servers.select("server", "lost").iter_rows())
    # Support of 2007 (mx5) and 2013 (mx2) ended long ago; of 2016 (mx1) and 2019 (mx3, mx4) 199 days before 2 May.
    lost = {name: later[name] if name[:3] in ("mx1", "mx3", "mx4") else whole[name] for name in whole}
    lost["mx6.tenant2.example"] = 0  # SE is supported
    assert 0 < sum(lost.values()) < sum(whole.values()) == own.totals["lost"]
    assert result.totals["lost"] == own.totals["lost"]
    assert result.by_stage.equals(own.by_stage)
    left = result.totals["vulnerable"] - sum(lost.values())
    assert result.totals["accepted_vulnerable"] == left
    for table in (result.by_group, result.servers, result.tenants):
        assert table["accepted_vulnerable"].sum() == left
    found = dict(result.servers.select("server", pl.col("vulnerable") - pl.col("accepted_vulnerable")).iter_rows())
    assert found == lost


def test_no_policy_lets_through_what_is_vulnerable_though_it_is_not_subject(store: Path) -> None:
    """A cohort that starts late leaves vulnerable mail untouched; against no policy it stands on both sides."""
    late = load_policy("ninety-days").model_copy(update={"cohorts": (Cohort(name="all", starts_on=date(2026, 5, 1)),)})
    compared = workbench.compare_policies([late], Setting(store=store), baseline="none")
    totals = compared.first.replay.totals
    assert totals["subject"] < totals["vulnerable"]
    in_all = of(differences(compared), "all", "baseline")
    assert (in_all["at_once"], in_all["accepted_vulnerable"]) == (totals["subject"], totals["vulnerable"])
