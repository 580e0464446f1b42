"""Why a message is accepted, deferred or rejected: from a store to sentences."""

from datetime import datetime
from pathlib import Path

import pytest
from worlds import run, store_of

from enforcement.builds import Build
from enforcement.remedies import recommended, remedies
from enforcement.shipped import load_catalogue, load_policy
from enforcement.verdict import Verdict
from enforcement.workbench import Setting, explain_message

SERVER = "mail.contoso.example"
EX2013 = "15.0.1497.48"  # unsupported since 2023-04-12
EX2016 = "15.1.2507.35"  # vulnerable from 2024-06-10 by the update of 2024-03-12


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A server that showed a vulnerable build on 2024-01-01 and a current one of 2016 on 2024-03-01."""
    return store_of(
        tmp_path / "traffic.duckdb",
        [
            ("2024-01-01T10:00", SERVER, EX2013),
            ("2024-02-29T10:00", SERVER, EX2013),
            ("2024-03-01T10:00", SERVER, EX2016),
            ("2024-03-01T11:00", "mail.fabrikam.example", None),
        ],
    )


def test_the_last_hand_over_before_decides(store: Path) -> None:
    """At 2024-02-29T10:00 the build is the 2013 one, its clock at 59; an hour before 10:00 of 03-01 still the same,
    at clock 60 in stage 5; after it the 2016 build, which is not vulnerable."""
    setting = Setting(store=store)
    first, second, third = (
        explain_message("ninety-days", setting, server=SERVER, at=datetime.fromisoformat(when), build=None)
        for when in ("2024-02-29T10:00", "2024-03-01T09:03", "2024-03-01T10:03")
    )
    assert (first.state.build, first.decision.clock, first.decision.stage) == (EX2013, 59, 4)
    assert (second.state.build, second.decision.clock, second.decision.stage) == (EX2013, 60, 5)
    assert second.decision.verdict is Verdict.REJECT
    assert (third.state.build, third.decision.verdict, third.decision.stage) == (EX2016, Verdict.ACCEPT, None)


def test_the_sentences_answer_an_angry_customer(store: Path) -> None:
    """What was said, what was seen, what it proves, which rule, since when, which stage and minutes, what ends it."""
    case = explain_message(
        "ninety-days", Setting(store=store), server=SERVER, at=datetime(2024, 3, 1, 9, 3), build=None
    )
    told = "\n".join(case.sentences())
    for part in (
        "rejected; the mail is lost",
        "550 5.7.230",
        "on 2024-02-29 at 10:00 UTC, shows the build 15.0.1497.48",
        "at least Exchange Server 2013 CU23 Mar23SU",
        "support for Exchange Server 2013 ended the day before 2023-04-12",
        "started on 2024-01-01 and stands at day 60: stage 5 of 8 (block partly)",
        "5 min blocked (from :00 to :04) and 30 min throttled (from :05 to :34)",
        "The next change is on 2024-03-11",
        # Of 2013 nothing is accepted any more; SE came in 2025.
        "What ends it: install Exchange Server 2016 CU23 Nov23SU (15.1.2507.35, KB5032147), accepted until 2024-06-09",
        "; or Exchange Server 2019 CU14 (15.2.1544.4, KB5035606), accepted until 2024-06-09 as far as is known.",
    ):
        assert part in told


def test_a_build_can_be_asked_about(store: Path) -> None:
    """Nobody saw this build vulnerable here, but the spell lasts: its one clean day came too early to end it.
    From 2024-01-01 to 2024-07-01 the clock runs for 182 days."""
    case = explain_message(
        "ninety-days", Setting(store=store), server=SERVER, at=datetime(2024, 7, 1, 9, 3), build="15.01.2507.035"
    )
    assert (case.decision.stage, case.decision.clock, case.decision.rule) == (8, 182, "unpatched")
    assert "nobody has to have seen it" in case.sentences()[1]


def test_an_unknown_build_is_never_enforced(store: Path) -> None:
    case = explain_message(
        "ninety-days", Setting(store=store), server="mail.fabrikam.example", at=datetime(2024, 3, 2, 9, 3), build=None
    )
    assert case.decision.verdict is Verdict.ACCEPT
    assert "never enforced" in case.sentences()[2]


@pytest.mark.parametrize(
    ("server", "at", "told"),
    [
        ("mial.contoso.example", "2024-03-01T10:00", "did you mean mail.contoso.example"),
        ("x" * 2000, "2024-03-01T10:00", "no server"),
        ("a\nb\x1b[2J", "2024-03-01T10:00", "no server"),
        (SERVER, "2023-12-31T10:00", "no hand-over of mail.contoso.example at or before"),
    ],
)
def test_what_the_store_does_not_know_is_said(store: Path, server: str, at: str, told: str) -> None:
    with pytest.raises(LookupError) as error:
        explain_message("ninety-days", Setting(store=store), server=server, at=datetime.fromisoformat(at), build=None)
    assert told in str(error.value)
    assert str(error.value).isprintable()


def test_what_ends_it_is_what_notices_and_pages_name(store: Path) -> None:
    """On 2024-01-15 the update of October 2023 is accepted for four more weeks, that of November for months."""
    at = datetime(2024, 1, 15, 9, 3)
    case = explain_message("ninety-days", Setting(store=store), server=SERVER, at=at, build="15.1.2507.6")
    catalogue = load_catalogue()
    known = remedies(catalogue, load_policy("ninety-days"), at.date())
    (named,) = recommended(Build.parse("15.1.2507.6"), catalogue, known)
    assert case.sentences()[-1].startswith(f"What ends it: install {named.told}. ")
    assert "Nov23SU (15.1.2507.35, KB5032147), accepted until 2024-06-09" in named.told


def test_what_ends_it_is_accepted_on_the_hop_that_was_seen(tmp_path: Path) -> None:
    """On a mapi hop CU19 misses the update of March 2021, which smtp hops never show: bare, it ends nothing."""
    store = tmp_path / "traffic.duckdb"
    table = tmp_path / "mapi.csv"
    table.write_text("sent_at,server,build,hop\n2021-06-20T10:00Z,mail.contoso.example,15.1.2176.2,mapi\n")
    assert run("import", table, "--store", store).returncode == 0
    case = explain_message(
        "ninety-days", Setting(store=store), server="mail.contoso.example", at=datetime(2021, 6, 20, 10), build=None
    )
    assert case.decision.stage == 1
    told = case.sentences()[-1]
    assert "install Exchange Server 2016 CU19" in told
    assert "(15.1.2176.2)" not in told
    assert "Silence clears nothing" in told


def test_the_route_it_came_is_said(tmp_path: Path) -> None:
    store = store_of(tmp_path / "traffic.duckdb", [("2024-01-01T10:00", SERVER, EX2013)], route="relayed")
    case = explain_message("ninety-days", Setting(store=store), server=SERVER, at=datetime(2024, 1, 2), build=None)
    assert "It came relayed; it is judged as if it came direct." in case.sentences()[1]
