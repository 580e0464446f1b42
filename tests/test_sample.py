"""The made-up fleet: the same for ever, exact in number, shaped by the figures of its file."""

import hashlib
from dataclasses import replace
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest

from enforcement.builds import Build, Evidence, Hop
from enforcement.catalogue import Catalogue, Placed
from enforcement.names import tenant_of
from enforcement.sample import LAST_ON, Extent, Fleet, Sample, make_fleet, make_sample, traffic_of
from enforcement.sample_shape import Shape, Zone
from enforcement.schema import HANDOVERS, SIGHTINGS
from enforcement.shipped import load_catalogue, load_sample_shape

SMALL = Extent(messages=2_000, servers=60, days=40, seed=7)
# Of SMALL, as `_fingerprint` sees it. A change here is a new sample for everybody: say so in the CHANGELOG.
SMALL_SHA256 = "de005084fb20e7cddcf614714b71f833aea984a6ff0feddb52dcda9672c0d2d0"

# RFC 2606; RFC 6762; ICANN resolution 2018.02.04.12.
RESERVED = (".example", ".local", ".corp")


def _make(extent: Extent) -> Sample:
    return make_sample(load_catalogue(), load_sample_shape(), extent)


def _fingerprint(sample: Sample) -> str:
    """Hash all values as text, so that nothing but the values counts."""
    rows = [*sample.handovers.iter_rows(), *sample.sightings.iter_rows()]
    return hashlib.sha256("\n".join("|".join(map(str, row)) for row in rows).encode()).hexdigest()


def _placed(builds: pl.Series) -> dict[str | None, Placed]:
    catalogue = load_catalogue()
    return {text: catalogue.place(Build.parse(text) if text else None) for text in builds.unique()}


def _vulnerable_from(build: str | None) -> date | None:
    """Apply the two rules that most policies have: out of support, or an update missing for 90 days."""
    catalogue = load_catalogue()
    dates = catalogue.dates(catalogue.place(Build.parse(build) if build else None), Hop.SMTP)
    missing = dates.missing_since + timedelta(days=90) if dates.missing_since else None
    return min((day for day in (dates.unsupported_since, missing) if day), default=None)


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue()


@pytest.fixture(scope="module")
def shape() -> Shape:
    return load_sample_shape()


@pytest.fixture(scope="module")
def fleet(catalogue: Catalogue, shape: Shape) -> Fleet:
    """The fleet of the default sample."""
    return make_fleet(catalogue, shape, Extent())


@pytest.fixture(scope="module")
def sample(catalogue: Catalogue, shape: Shape) -> Sample:
    """The default sample: a million messages."""
    return make_sample(catalogue, shape, Extent())


@pytest.fixture(scope="module")
def known(sample: Sample) -> pl.DataFrame:
    """The default hand-overs with day, product and evidence of their build, and from when it is vulnerable."""
    facts = pl.DataFrame(
        [
            (
                build,
                placed.product,
                placed.release.name if placed.release else None,
                str(placed.evidence),
                _vulnerable_from(build),
            )
            for build, placed in _placed(sample.handovers["build"]).items()
        ],
        schema={
            "build": pl.String,
            "product": pl.String,
            "update": pl.String,
            "evidence": pl.String,
            "vulnerable_from": pl.Date,
        },
        orient="row",
    )
    return (
        sample.handovers.with_columns(day=pl.col("sent_at").dt.date())
        .join(facts, on="build", nulls_equal=True)
        .with_columns(vulnerable=(pl.col("vulnerable_from") <= pl.col("day")).fill_null(value=False))
    )


def _share(frame: pl.DataFrame, column: str) -> dict[Any, float]:
    counts = frame.group_by(column).len()
    return dict(zip(counts[column], (counts["len"] / frame.height).to_list(), strict=True))


def test_the_same_seed_is_the_same_sample_for_ever() -> None:
    """A small sample has the hash that it had when this test was written, on every day and machine."""
    assert _fingerprint(_make(SMALL)) == SMALL_SHA256


def test_another_seed_is_another_sample() -> None:
    """Seeds do not give the same messages."""
    other = Extent(messages=2_000, servers=60, days=40, seed=8)
    assert not _make(SMALL).handovers.equals(_make(other).handovers)


def test_a_later_catalogue_leaves_the_sample_as_it_is(catalogue: Catalogue, shape: Shape) -> None:
    """A release that comes out after the last day changes nothing: the same seed gives the same data for ever."""
    newest = max(catalogue.releases, key=lambda release: release.build)
    later = replace(newest, build=Build(15, 2, 2562, 70), released_on=date(2026, 11, 10))
    grown = replace(catalogue, releases=(*catalogue.releases, later))
    assert _fingerprint(make_sample(grown, shape, SMALL)) == _fingerprint(make_sample(catalogue, shape, SMALL))


def test_the_last_day_does_not_depend_on_today() -> None:
    """Without being told, a sample is of 180 days up to a fixed day."""
    assert (LAST_ON, Extent().first_on) == (date(2026, 10, 31), date(2026, 5, 5))


@pytest.mark.parametrize(
    "extent",
    [
        Extent(messages=100, servers=3, days=2),
        Extent(messages=1, servers=1, days=1),
        Extent(messages=7, servers=7, days=7),
        Extent(messages=1_000),
        Extent(messages=3_000, days=20, last_on=date(2012, 5, 1)),
        Extent(messages=3_000, days=20, last_on=date(2035, 5, 1)),
        SMALL,
    ],
    ids=str,
)
def test_messages_and_servers_are_as_many_as_asked_for(extent: Extent) -> None:
    """Whatever the size and the time, rows = messages, all servers hand over, nothing lies outside the period."""
    sample = _make(extent)
    assert dict(sample.handovers.schema) == dict(HANDOVERS)
    assert dict(sample.sightings.schema) == dict(SIGHTINGS)
    assert sample.handovers.height == extent.messages == sample.handovers["messages"].sum()
    assert sample.handovers["server"].n_unique() == extent.n_servers
    assert sample.handovers["sent_at"].dt.date().is_between(extent.first_on, extent.last_on).all()


def test_the_default_is_a_million_messages_of_5000_servers(sample: Sample) -> None:
    """The default sample has exactly the size that is written in the manual."""
    assert (sample.handovers.height, sample.handovers["server"].n_unique()) == (1_000_000, 5_000)
    assert sample.handovers["sent_at"].dt.date().n_unique() == 180


def test_a_day_can_be_drawn_alone(fleet: Fleet, sample: Sample) -> None:
    """A day's traffic is the same whether all days are drawn or only this one: large samples go day by day."""
    day = date(2026, 7, 14)
    alone = traffic_of(fleet, (day - Extent().first_on).days)
    assert alone.handovers.equals(sample.handovers.filter(pl.col("sent_at").dt.date() == day))
    assert alone.sightings.equals(sample.sightings.filter(pl.col("day") == day))


@pytest.mark.parametrize("day", [-1, 180])
def test_a_day_outside_the_period_is_an_error(fleet: Fleet, day: int) -> None:
    """There is no traffic of a day that the sample does not have."""
    with pytest.raises(ValueError, match=f"day {day} of a sample of 180"):
        traffic_of(fleet, day)


def test_the_fleet_begins_with_the_products_that_were_counted(known: pl.DataFrame, shape: Shape) -> None:
    """Of the servers seen in the first week, each product has its share of the file within 1.5 points."""
    first_week = known.filter(pl.col("day") < Extent().first_on + timedelta(days=7), pl.col("product").is_not_null())
    shares = _share(first_week.unique(["server", "product"]), "product")
    # Servers of much mail are seen first, but volume does not depend on the product.
    assert shares == pytest.approx(shape.products.shares, abs=0.02)


def test_servers_leave_what_is_out_of_support_at_the_rate_that_was_counted(fleet: Fleet, catalogue: Catalogue) -> None:
    """Unsupported servers fall by about 1 % a week (Germany, 2025 to 2026), by upgrade and by retirement together."""
    is_old = np.array([_is_unsupported(text, catalogue) for text in fleet.smtp_ids] + [False])  # last: silent
    first, last = is_old[fleet.runs[:, 0]].sum(), is_old[fleet.runs[:, -1]].sum()
    assert -np.log(last / first) / (179 / 7) == pytest.approx(0.0098, abs=0.002)


def _is_unsupported(text: str | None, catalogue: Catalogue) -> bool:
    product = catalogue.place(Build.parse(text) if text else None).product
    return product is not None and product != "Exchange Server SE"


@pytest.mark.parametrize(("days", "counted"), [(7, 0.03), (28, 0.16), (56, 0.29), (80, 0.36)])
def test_updates_spread_as_they_were_seen_to(fleet: Fleet, catalogue: Catalogue, days: int, counted: float) -> None:
    """After so many days a share of SE servers has June's update as on the lists, within 8 points.

    The lists, 15 updates pooled: 3 % after 7 days, 16 % after 28, 29 % after 56, 39 % after 90; single ones 19 to 55 %.
    """
    update = next(i for i, release in enumerate(catalogue.releases) if release.name.endswith("SE RTM Jun26SU"))
    is_se = np.array([release.product == "Exchange Server SE" for release in catalogue.releases])
    released = (date(2026, 6, 9) - Extent().first_on).days
    plain = fleet.runs.max(axis=1) < len(is_se)  # no strange builds
    then = plain & (fleet.runs[:, released] >= 0)
    then[then] = is_se[fleet.runs[then, released]]
    has_it = fleet.runs[then, released + days] >= update
    assert then.sum() > 500
    assert has_it.mean() == pytest.approx(counted, abs=0.08)


def test_those_who_never_patch_keep_what_they_have(catalogue: Catalogue, shape: Shape) -> None:
    """Where nobody acts and nobody upgrades, each server runs one build for as long as it is seen."""
    lives = shape.lives.model_copy(update={"upgrade_per_week": {}})
    patching = shape.patching.model_copy(update={"never_share": 1.0})
    ids = shape.ids.model_copy(update={"newer_share": 0.0})
    idle = shape.model_copy(update={"lives": lives, "patching": patching, "ids": ids})
    runs = make_fleet(catalogue, idle, Extent()).runs
    seen = np.ma.masked_less(runs, 0)
    assert (seen.max(axis=1) == seen.min(axis=1)).all()


def test_paid_updates_are_for_few(known: pl.DataFrame) -> None:
    """Of the servers of 2016 and 2019 at most 5 %, those with paid updates, ever run one."""
    old = known.filter(pl.col("product").is_in(["Exchange Server 2016", "Exchange Server 2019"]))
    paid = {release.name for release in load_catalogue().releases if not release.is_public}
    servers = old.group_by("server").agg(pl.col("update").is_in(paid).any())
    share = servers["update"].to_numpy().mean()
    assert 0.01 < share < 0.05


def test_a_few_tenants_send_most(known: pl.DataFrame) -> None:
    """The ten largest of some 2,000 tenants send a third to two thirds of all mail; most servers send little."""
    servers = known.group_by("server").len()
    tenants = (
        servers.with_columns(tenant=pl.Series([tenant_of(name) for name in servers["server"]]))
        .group_by("tenant")
        .agg(pl.col("len").sum(), servers=pl.len())
        .sort("len", descending=True)
    )
    assert 1_500 < tenants.height < 3_500
    assert 0.33 < tenants["len"].head(10).sum() / known.height < 0.67
    sent = servers["len"].to_numpy()
    assert np.median(sent) < sent.mean() / 3
    assert (tenants["servers"] == 1).sum() > tenants.height / 2
    assert (tenants["servers"] >= 30).any()


def test_the_week_and_the_day_have_their_rhythm(catalogue: Catalogue, shape: Shape) -> None:
    """In one time zone weekdays and hours have the shares of the file, within half a point."""
    utc = shape.tenants.model_copy(update={"zones": (Zone(utc_offset_minutes=0, share=1.0),)})
    steady = shape.lives.model_copy(update={"new_share": 0.0, "retire_unsupported_per_week": 0.0})
    extent = Extent(messages=200_000, servers=200, days=84, last_on=date(2026, 10, 25))  # twelve weeks
    sent = make_sample(catalogue, shape.model_copy(update={"tenants": utc, "lives": steady}), extent).handovers[
        "sent_at"
    ]
    for found, weights in (
        (sent.dt.weekday() - 1, shape.rhythm.weekday_weights),
        (sent.dt.hour(), shape.rhythm.hour_weights),
    ):
        shares = [(found == place).mean() for place in range(len(weights))]
        assert shares == pytest.approx([weight / sum(weights) for weight in weights], abs=0.005)


def test_servers_keep_the_hours_of_their_own_zone(catalogue: Catalogue, shape: Shape) -> None:
    """Eight hours west, the busiest hour of the day comes eight hours later in UTC, and the end of Sunday too."""

    def busiest(offset: int) -> tuple[int, float]:
        zones = (Zone(utc_offset_minutes=offset, share=1.0),)
        there = shape.model_copy(update={"tenants": shape.tenants.model_copy(update={"zones": zones})})
        extent = Extent(messages=100_000, servers=100, days=28)
        sent = make_sample(catalogue, there, extent).handovers["sent_at"]
        monday_night = ((sent.dt.weekday() == 1) & (sent.dt.hour() < 8)).to_numpy()
        return int(np.bincount(sent.dt.hour().to_numpy()).argmax()), float(monday_night.mean())

    (at_home, night_at_home), (out_west, night_out_west) = busiest(0), busiest(-480)
    assert out_west == at_home + 8
    assert night_out_west < night_at_home / 2  # it is still Sunday there


def test_minutes_are_not_rounded(sample: Sample) -> None:
    """Jobs on the hour show, but no import would take these times for rounded ones (10 % on minute 0)."""
    shares = np.bincount(sample.handovers["sent_at"].dt.minute().to_numpy(), minlength=60) / sample.handovers.height
    assert 1.5 / 60 < shares[0] < 0.1
    assert np.delete(shares, [0, 30]) == pytest.approx(0.97 / 60, rel=0.05)  # 30: the hour begins in India


def test_jobs_run_when_the_local_hour_begins(catalogue: Catalogue, shape: Shape) -> None:
    """In a zone of half hours scheduled mail comes at half past, UTC."""
    india = (Zone(utc_offset_minutes=330, share=1.0),)
    there = shape.model_copy(update={"tenants": shape.tenants.model_copy(update={"zones": india})})
    sent = make_sample(catalogue, there, Extent(messages=20_000, servers=50, days=10)).handovers["sent_at"]
    shares = np.bincount(sent.dt.minute().to_numpy(), minlength=60) / len(sent)
    assert shares.argmax() == 30
    assert shares[30] == pytest.approx(0.03 + 0.97 / 60, abs=0.005)


def test_all_routes_are_taken_in_their_shares(sample: Sample, fleet: Fleet, shape: Shape) -> None:
    """Servers take each route in the shares of the file; of the messages of a server most, not all, the same."""
    usual = np.bincount(fleet.usual_route, minlength=3) / len(fleet.usual_route)
    assert usual == pytest.approx(list(shape.routes.shares.values()), abs=0.001)
    assert set(sample.handovers["route"].unique()) == set(shape.routes.shares)
    routes = sample.handovers.filter(pl.col("server").is_in(_one_machine(fleet))).group_by("server", "route").len()
    of_server = routes.group_by("server").agg(pl.col("len").max().alias("most"), pl.col("len").sum())
    # 5 % of messages are drawn anew, and 46 % of those take their usual route after all.
    assert int(of_server["most"].sum()) / int(of_server["len"].sum()) == pytest.approx(0.973, abs=0.005)


def _one_machine(fleet: Fleet) -> list[str]:
    """Name the servers that hide no second one."""
    counts = fleet.server.value_counts()
    return counts.filter(pl.col("count") == 1)[counts.columns[0]].to_list()


def test_builds_are_known_in_every_way_a_hand_over_can_be(known: pl.DataFrame) -> None:
    """Most builds are exact, a few between releases, newer than all, or unknown; the cloud hands nothing over."""
    shares = _share(known, "evidence")
    assert shares.keys() == {Evidence.EXACT, Evidence.ROUNDED_UP, Evidence.NEWER, Evidence.UNKNOWN}
    assert shares[Evidence.EXACT] > 0.95
    assert min(shares.values()) > 0.0005
    assert known["build"].null_count() > 0


def test_no_build_is_seen_before_its_release(sample: Sample) -> None:
    """Servers run only what was out on the day, as in the public mail that was counted."""
    for frame, day in (
        (sample.handovers, pl.col("sent_at").dt.date()),
        (sample.sightings, pl.col("day")),
    ):
        first_seen = frame.group_by("build").agg(day=day.min())
        placed = _placed(first_seen["build"])
        for build, day_seen in first_seen.iter_rows():
            if release := placed[build].release:
                assert release.released_on <= day_seen, build


def test_early_updates_show_on_mapi_hops_only() -> None:
    """In April 2021 patched servers show March's update on mapi hops, and on smtp hops what they showed before it."""
    sample = _make(Extent(messages=20_000, days=60, last_on=date(2021, 4, 30)))
    shown = {
        hop: {placed.release for placed in _placed(frame["build"]).values() if placed.release}
        for (hop,), frame in sample.sightings.group_by("hop")
    }
    assert all(release.shown_by_smtp_hop for release in shown["smtp"])
    hidden = {release for release in shown["mapi"] if not release.shown_by_smtp_hop}
    assert {release.released_on for release in hidden} >= {date(2021, 3, 2)}


def test_sightings_count_the_hand_overs_and_more(sample: Sample) -> None:
    """Each hand-over of a known build is one smtp hop seen; mapi hops come on top, of a fifth of the servers."""
    hops = sample.sightings.group_by("hop").agg(pl.col("hops").sum(), pl.col("server").n_unique()).sort("hop")
    assert hops["hop"].to_list() == ["mapi", "smtp"]
    assert hops["hops"][1] == sample.handovers["build"].count()
    assert 0.15 < hops["server"][0] / 5_000 < 0.3
    keys = sample.sightings.select("server", "build", "hop", "day")
    assert keys.n_unique() == keys.height


def test_every_kind_of_life_is_there(known: pl.DataFrame, fleet: Fleet) -> None:
    """Servers patch, go back, upgrade to SE or from 2013 to 2016 (vulnerable both), retire, appear, hide another."""
    catalogue = load_catalogue()
    order = {release.name: number for number, release in enumerate(catalogue.releases)}
    patched, back, to_se, to_2016 = set(), set(), set(), set()
    per_day = (
        known.filter(pl.col("update").is_not_null(), pl.col("server").is_in(_one_machine(fleet)))
        .unique(["server", "day"])  # one machine runs one build a day
        .sort("server", "day")
    )
    for (server,), days in per_day.group_by("server", maintain_order=True):
        updates, products = days["update"].to_list(), days["product"].to_list()
        rises = [order[later] - order[earlier] for earlier, later in pairwise(updates)]
        patched |= {server} if any(rise > 0 for rise in rises) else set()
        for earlier, later in pairwise(products):
            to_se |= {server} if later == "Exchange Server SE" != earlier else set()
            to_2016 |= {server} if (earlier, later) == ("Exchange Server 2013", "Exchange Server 2016") else set()
        fall = next((at for at, rise in enumerate(rises) if rise < 0), None)
        if fall is not None and updates[fall] in updates[fall + 1 :]:
            back.add(server)
    assert len(patched) > 500
    assert len(back) > 10
    assert len(to_se) > 100
    assert len(to_2016) >= 1
    seen = known.group_by("server").agg(first=pl.col("day").min(), last=pl.col("day").max(), n=pl.len())
    busy = seen.filter(pl.col("n") > 50)
    assert busy.filter(pl.col("last") < LAST_ON - timedelta(days=30)).height > 50  # retired
    assert busy.filter(pl.col("first") > Extent().first_on + timedelta(days=30)).height > 10  # new
    two = known.group_by("server", "day").agg(pl.col("build").n_unique())
    assert two.filter(pl.col("build") > 1).group_by("server").len().filter(pl.col("len") > 20).height > 20


def test_two_servers_behind_a_name_take_turns(known: pl.DataFrame) -> None:
    """Where a name hides two servers, their mail is interleaved: the build changes to and fro within a day."""
    turns = (
        known.sort("server", "sent_at")
        .group_by("server", "day", maintain_order=True)
        .agg(changes=(pl.col("build") != pl.col("build").shift()).sum())
    )
    assert turns.filter(pl.col("changes") > 3).height > 100


def test_a_ninety_day_policy_meets_all_that_it_is_made_for(known: pl.DataFrame) -> None:
    """Some are never vulnerable, most at once, some from a later day; mail falls into each of the eight stages."""
    assert known.filter(~pl.col("vulnerable"))["server"].n_unique() > 300
    turns = known.group_by("server", "build").agg(pl.col("vulnerable").min().alias("least"), pl.col("vulnerable").max())
    assert turns.filter(~pl.col("least"), pl.col("vulnerable"))["server"].n_unique() > 200  # the same build, later
    vulnerable = known.filter("vulnerable")
    start = vulnerable.group_by("server").agg(start=pl.col("day").min())
    clock = vulnerable.join(start, on="server").select(clock=(pl.col("day") - pl.col("start")).dt.total_days())
    stage = np.searchsorted([30, 40, 50, 60, 70, 80, 90], clock["clock"].to_numpy(), side="right")
    assert np.bincount(stage, minlength=8).min() > 10_000


def test_no_name_is_anybodys(known: pl.DataFrame) -> None:
    """All names end in domains that nobody can own, inner and outer ones, in the spelling of an import."""
    names = known["server"].unique().to_list()
    assert not [name for name in names if not name.endswith(RESERVED)]
    assert {name.rpartition(".")[2] for name in names} == {"example", "local", "corp"}
    assert not [name for name in names if name != name.lower() or not tenant_of(name).startswith("org")]


def test_tenants_are_left_to_the_rule_of_an_import(sample: Sample) -> None:
    """The sample states no tenant: it comes from the server's name, as with mail."""
    assert sample.handovers["tenant"].null_count() == sample.handovers.height
    assert sample.sightings["tenant"].null_count() == sample.sightings.height


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"messages": 0}, r"a sample of 0 messages \(expected 1 to 1,000,000,000\)"),
        ({"messages": -5}, "a sample of -5 messages"),
        ({"servers": 0}, r"a sample of 0 servers \(expected 1 to 1,000,000\)"),
        ({"servers": 2_000_000, "messages": 5_000_000}, "a sample of 2,000,000 servers"),
        ({"messages": 10, "servers": 11}, r"10 messages of 11 servers \(expected one or more of each server\)"),
        ({"days": 0}, r"a sample of 0 days \(expected 1 to 3,653\)"),
        ({"days": 4_000}, "a sample of 4,000 days"),
        ({"seed": -1}, r"a seed of -1 \(expected 0 or more\)"),
        ({"last_on": date(1, 1, 1)}, "a sample up to 0001-01-01"),
        ({"last_on": date(9999, 12, 31)}, "a sample up to 9999-12-31"),
    ],
)
def test_impossible_extents_are_refused(wrong: dict[str, Any], line: str) -> None:
    """A size that cannot be is an error that repeats it and says what was expected."""
    with pytest.raises(ValueError, match=line):
        Extent(**wrong)


def test_a_time_before_all_products_is_refused(catalogue: Catalogue, shape: Shape) -> None:
    """No fleet can be made for days before the first release."""
    with pytest.raises(
        ValueError, match=r"no product of the sample was out on 2007-01-02 \(expected a first day after"
    ):
        make_fleet(catalogue, shape, Extent(messages=10, days=2, last_on=date(2007, 1, 3)))
