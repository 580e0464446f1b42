"""The package and its slow twin say the same of random fleets, of real mail and of the sample."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from agreement import Case, batch_of
from examples import policy
from fleets import cases, lively, policies
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference import ReferenceReplay
from reference_builds import read_facts, stand
from reference_clock import Message
from reference_mail import Mails, read_mail

from enforcement import schema
from enforcement.builds import Build
from enforcement.importers.batch import Batch
from enforcement.importers.sources import find_sources
from enforcement.names import tenant_of
from enforcement.policy import Policy
from enforcement.received import Route
from enforcement.sample import Extent, make_sample
from enforcement.shipped import load_catalogue, load_policy, load_sample_shape, shipped_policies
from enforcement.standing import standings
from enforcement.store import create_store

SAMPLED = 20_000  # messages of the sample, of a thousand servers


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(cases())
def test_random_fleets(case: Case) -> None:
    """Whatever the fleet and the policy, clocks, verdicts and counts agree, message by message."""
    case.agree()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_lively_fleets(seed: int) -> None:
    """The same over months in which servers enter many stages and spells."""
    lively(Random(seed)).agree(every=7)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_lively_fleets_in_a_store(seed: int) -> None:
    """What a store counts by its own engine is what the twin counts."""
    case = replace(lively(Random(seed)), clock_starts=[])
    with TemporaryDirectory() as folder, create_store(Path(folder) / "traffic.duckdb") as store:
        store.add(source="mail", sha256="0", options={}, batches=[batch_of(case.messages, case.servers)])
        case.agree(history=store.history(), every=50)


# --- builds -------------------------------------------------------------------------------------------------------


EVERY_RULE = """[
  { name = "private", since = "missing_since", after_days = 400 },
  { name = "exploited", since = "exploited_since", after_days = 14, when = "product <> 'Exchange Server 2013'" },
  { name = "minimum", since = "below_minimum_since" },
  { name = "unsupported", since = "unsupported_since" },
]"""
MINIMUM_BUILDS = """[
  { product = "Exchange Server 2016", build = "15.1.2507.61", from = 2021-09-08 },
  { product = "Exchange Server 2019", build = "15.2.1544.36", from = 2022-09-08, line = "CU14" },
]"""


def neighbours() -> list[str]:
    """Each build of the catalogue, and the numbers one below and one above it."""
    builds = [release.build for release in read_facts().releases]
    return sorted({str(Build(*build[:3], max(0, build.revision + step))) for build in builds for step in (-1, 0, 1)})


def prove_the_same(numbers: Iterable[str], policy: Policy) -> None:
    facts = read_facts()
    rows = [(number, hop) for number in numbers for hop in ("smtp", "mapi")]
    builds = pl.DataFrame(
        [(number, *row) for number, row in enumerate(rows, start=1)], schema=dict(schema.BUILDS), orient="row"
    )
    found = standings(builds, load_catalogue(), policy).drop("build_id").rows()
    for (build, hop), row in zip(rows, found, strict=True):
        expected = stand(build, hop, policy, facts)
        assert row == (
            build,
            hop,
            expected.evidence,
            expected.product,
            expected.line,
            expected.update,
            expected.kind,
            expected.proves.padded if expected.proves else None,
            expected.missing_since,
            expected.unsupported_since,
            expected.exploited_since,
            expected.below_minimum_since,
            expected.vulnerable_from,
            expected.rule,
        )


@pytest.mark.parametrize("count_private_updates", ["true", "false"])
def test_every_build_proves_the_same(count_private_updates: str) -> None:
    """Each build of the catalogue and its neighbours, on both kinds of hop: evidence, dates, rule."""
    rules = policy(rules=EVERY_RULE, minimum_builds=MINIMUM_BUILDS, count_private_updates=count_private_updates)
    prove_the_same(neighbours(), rules)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(neighbours()), min_size=5, max_size=30), policies())
def test_builds_prove_the_same_under_random_rules(numbers: list[str], policy: Policy) -> None:
    """The same of some builds, whatever the rules."""
    prove_the_same(numbers, policy)


# --- real mail and the sample -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RealMail:
    """The real sample as the twin's importer reads it, and as the package's does."""

    mails: Mails
    batch: Batch
    case: Case


@pytest.fixture(scope="module", params=[(), ("*.protection.outlook.com",)], ids=["all hosts", "own hosts"])
def real(request: pytest.FixtureRequest, real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> RealMail:
    """Read the real mail: every hand-over, or what Exchange Online received, of which the direct ones are subject."""
    path, own_hosts = real_data / "mail-sample.mbox.gz", request.param
    mails = read_mail(path, tmp_path_factory.mktemp("mail"), own_hosts)
    (source,) = find_sources(path, own_hosts=own_hosts)
    routes = (Route.DIRECT,) if own_hosts else tuple(Route)
    case = Case(
        messages=mails.messages,
        servers={message.server: tenant_of(message.server) for message in mails.messages},
        policy=load_policy("ninety-days").model_copy(update={"routes": routes}),
    )
    (batch,) = source.read(lambda *_: None)
    return RealMail(mails, batch, case)


def test_real_mail_is_read_the_same(real: RealMail) -> None:
    """Each hand-over with its time, server, build and route, each sighting, and the number of rejected mails."""
    batch, mails = real.batch, real.mails
    read = batch.handovers.select("sent_at", "server", "build", "hop", "route", "messages").rows()
    assert Counter(Message(*row) for row in read) == Counter(mails.messages)
    assert batch.rejects.height == mails.reasons.total()
    assert batch.sightings is not None
    seen = batch.sightings.select("server", "build", "hop", "day", "hops").rows()
    assert {row[:4]: row[4] for row in seen} == mails.sightings


def test_real_mail(real: RealMail, tmp_path: Path) -> None:
    """Clocks and counts of each real message agree, and the decisions on one in twenty, out of a store."""
    with create_store(tmp_path / "traffic.duckdb") as store:
        store.add(source="mail", sha256="0", options={}, batches=[real.batch])
        real.case.agree(history=store.history(), every=20)


@pytest.mark.parametrize("name", shipped_policies())
def test_real_mail_under_shipped_policies(name: str, real: RealMail) -> None:
    """At most 0.5 % of the subject messages would end otherwise in real time."""
    case = replace(real.case, policy=load_policy(name).model_copy(update={"routes": real.case.policy.routes}))
    differ_little(name, case, case.agree(every=200))


@pytest.fixture(scope="module")
def sample_messages() -> list[Message]:
    sample = make_sample(load_catalogue(), load_sample_shape(), Extent(messages=SAMPLED))
    return [
        Message(row["sent_at"], row["server"], row["build"], row["hop"], row["route"], row["messages"])
        for row in sample.handovers.to_dicts()
    ]


@pytest.mark.parametrize("name", shipped_policies())
def test_the_sample_under_shipped_policies(name: str, sample_messages: list[Message]) -> None:
    """The same of a small sample: all counts agree, and at most 0.5 % would end otherwise in real time."""
    servers = {message.server: tenant_of(message.server) for message in sample_messages}
    case = Case(messages=sample_messages, servers=servers, policy=load_policy(name))
    differ_little(name, case, case.agree(every=1000))


def differ_little(name: str, case: Case, slow: ReferenceReplay) -> None:
    """Print the share of subject messages that end otherwise in real time, and hold it to the bound."""
    subject, differ = float(slow.total.subject), float(case.differ_in_real_time(slow))
    share = differ / subject if subject else 0.0
    print(f"{name}: {differ:g} of {subject:g} subject messages end otherwise in real time ({share:.3%})")
    assert share <= 0.005
