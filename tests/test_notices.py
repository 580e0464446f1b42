"""Notices: exactly who must be told is told, in time, and nothing that others wrote is markup or a file name."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from datetime import date, timedelta
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import pytest
from agreement import Case, background, history_of
from examples import EX2013, EX2016, NEW_YEAR, PATCHED, SERVER, TENANT, at, days, policy
from fleets import lively
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from reference_builds import Standing, read_facts, stand
from reference_clock import Message, Pause, cohort_of
from worlds import answer, run, store_of

from enforcement.announcing import notices_on, write_notices
from enforcement.course import course
from enforcement.export.calendar import calendar
from enforcement.export.notice_plan import SENT, Plan, judge, plan, read_sent, refusals, to_send
from enforcement.export.notices import FOLDER, MERGE, Known, notice_files
from enforcement.names import file_name
from enforcement.policy import Notice, Policy
from enforcement.shipped import load_catalogue, load_policy
from enforcement.store import open_store
from enforcement.workbench import Setting

NOTICE = '[notice]\nannouncement_url = "https://mail.example/announcement"\n'


def planned(
    messages: Sequence[Message], to: Policy, as_of: date, *, servers: dict[str, str] | None = None, **more: Any
) -> tuple[Known, Plan]:
    """Plan the notices of a day, knowing nothing of later ones."""
    until = [one for one in messages if one.sent_at.date() <= as_of]
    starts = [one for one in more.get("clock_starts", ()) if one.first_detected_on <= as_of]
    history = history_of(until, servers or {SERVER: TENANT}, starts)
    behind = background([], more.get("pauses", ()))
    way = course(history, to, behind)
    coming = calendar(way.spans, history.servers, to, as_of=as_of)
    found = plan(history, way, to, coming, as_of=as_of)
    assert found is not None
    return Known(history=history, way=way, calendar=coming, catalogue=load_catalogue()), found


def targeted(found: Plan) -> dict[tuple[str, str], date]:
    rows = found.due.filter(pl.col("notice") == "targeted").select("tenant", "cohort", "must_go_out_on").rows()
    return {(tenant, cohort): on for tenant, cohort, on in rows}


def sent(*rows: tuple[str, str, str, date]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SENT, orient="row")


# --- who is told: the slow twin -----------------------------------------------------------------------------------


def prover(to: Policy) -> Callable[[str | None, str], Standing]:
    """Say what builds prove under a policy, each worked out once."""
    facts = read_facts()
    return cache(lambda build, hop: stand(build, hop, to, facts))


def told_slowly(
    seen: Iterable[tuple[date, str, str, Standing]], servers: dict[str, str], to: Policy, day: date
) -> set[tuple[str, str]]:
    """Server and cohort of all that are unremediated on a day, from what was seen: day, server, route, standing."""
    found: set[tuple[str, str]] = set()
    for server, tenant in servers.items():
        mine = [each for each in seen if each[1] == server and each[0] <= day]
        proven = [(on, route, standing) for on, _, route, standing in mine]
        known = [each for each in proven if each[2].is_known]
        if not known or (day - max(each[0] for each in mine)).days > to.silent_after_days:
            continue
        last_on = max(on for on, _, _ in known)
        for on, route, standing in known:
            if on == last_on and route in to.routes and standing.is_vulnerable_on(day):
                cohort = cohort_of(standing.product, tenant, to)
                found |= {(server, cohort[0])} if cohort else set()
    return found


def seen_of(case: Case, to: Policy) -> list[tuple[date, str, str, Standing]]:
    proven = prover(to)
    messages = [(one.sent_at.date(), one.server, str(one.route), proven(one.build, one.hop)) for one in case.messages]
    starts = [
        (one.first_detected_on, one.server, str(to.routes[0]), proven(one.build, one.hop)) for one in case.clock_starts
    ]
    return messages + starts


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 120), st.sampled_from([0, 7, 30]), st.sampled_from([3, 20, 60]))
def test_exactly_the_tenants_with_an_unremediated_server_are_told(
    seed: int, after: int, days_before: int, silent_after: int
) -> None:
    """On a random day of random fleets: those of the twin; and each first on the day that the twin finds."""
    case = lively(Random(seed))
    notice = Notice(announcement_url="https://x.example/", targeted_days_before=days_before)
    to = case.policy.model_copy(update={"notice": notice, "silent_after_days": silent_after})
    seen, servers = seen_of(case, to), case.servers
    first = min(on for on, *_ in seen)
    as_of = first + timedelta(days=after)
    known, found = planned(case.messages, to, as_of, servers=servers, clock_starts=case.clock_starts)
    opens = {cohort.name: cohort.starts_on - timedelta(days=days_before) for cohort in to.cohorts}
    by_twin = {each for each in told_slowly(seen, servers, to, as_of) if opens[each[1]] <= as_of}
    names = known.history.servers.select("server_id", "server")
    told = found.told.join(names, on="server_id").select("server", "cohort").rows()
    assert set(told) == by_twin
    files = notice_files(known, found)
    merged = {row["tenant"] for row in csv.DictReader(io.StringIO(files[f"{FOLDER}/merge.csv"].decode()))}
    assert merged == {servers[server] for server, _ in by_twin}
    assert {name for name in files if "/tenants/" in name} == {
        f"{FOLDER}/tenants/{file_name(tenant)}.{kind}" for tenant in merged for kind in ("md", "html")
    }
    expected: dict[tuple[str, str], date] = {}
    for day in (first + timedelta(days=n) for n in range(after + 1)):
        for server, cohort in told_slowly(seen, servers, to, day):
            if day >= opens[cohort]:
                expected.setdefault((servers[server], cohort), day)
    past = {key: day for key, day in targeted(found).items() if day <= as_of}
    # A window that opened before anything was known opens with the first thing known.
    assert past == expected


def test_the_list_is_what_sql_finds_in_the_store(tmp_path: Path) -> None:
    """Over a sample: the builds of each server's last day with a known one, by a query of its own."""
    store, as_of = tmp_path / "s.duckdb", date(2026, 10, 1)
    assert run("sample", "--messages", "20000", "--seed", "3", "--store", store).returncode == 0
    told = answer("notices", "exchange-online", "--as-of", str(as_of), "--store", store, "--out", tmp_path / "out")
    to = load_policy("exchange-online")
    proves = prover(to)
    with open_store(store) as opened:
        rows = opened.query(
            "select distinct server, tenant, build, hop, route, sent_at::date as day,"
            " max(sent_at::date) over (partition by server) as seen_on from traffic where sent_at::date <= ?",
            [as_of],
        )
    known = [row for row in rows.iter_rows(named=True) if proves(row["build"], row["hop"]).is_known]
    last = {row["server"]: max(row["day"], NEW_YEAR) for row in sorted(known, key=lambda row: row["day"])}
    tenants = {
        row["tenant"]
        for row in known
        if row["day"] == last[row["server"]]
        and (as_of - row["seen_on"]).days <= to.silent_after_days
        and row["route"] == "direct"
        and (proven := proves(row["build"], row["hop"])).is_vulnerable_on(as_of)
        and cohort_of(proven.product, row["tenant"], to)
    }
    with (tmp_path / "out" / "merge.csv").open(encoding="utf-8") as file:
        merged = [row["tenant"] for row in csv.DictReader(file)]
    assert merged == sorted(tenants)
    assert len(merged) == told["tenants_told"] > 20


# --- when: worked by hand -----------------------------------------------------------------------------------------

# The example server shows 2013, vulnerable all through 2024.
COHORT_OF_APRIL = '[{ name = "all", starts_on = 2024-04-01 }]'


def test_the_targeted_notice_goes_out_before_the_start_or_when_a_server_turns_up() -> None:
    """30 days before 2024-04-01 is 2024-03-02; a server that turns up on 03-20 is told of that day."""
    to = policy(NOTICE, cohorts=COHORT_OF_APRIL)
    early = days(date(2024, 2, 1), 60, EX2013)
    assert targeted(planned(early, to, date(2024, 2, 10))[1]) == {(TENANT, "all"): date(2024, 3, 2)}
    assert targeted(planned(early, to, date(2024, 3, 25))[1]) == {(TENANT, "all"): date(2024, 3, 2)}
    late = days(date(2024, 3, 20), 10, EX2013)
    assert targeted(planned(late, to, date(2024, 3, 25))[1]) == {(TENANT, "all"): date(2024, 3, 20)}
    for as_of, n_told in ((date(2024, 3, 1), 0), (date(2024, 3, 2), 1)):
        assert planned(early, to, as_of)[1].told.height == n_told


def test_a_build_that_becomes_vulnerable_is_told_of_that_day() -> None:
    """2016 with the update of November 2023 lacks the one of 2024-03-12: 90 days later is 2024-06-10."""
    seen = days(date(2024, 5, 1), 30, PATCHED)
    found = planned(seen, policy(NOTICE), date(2024, 5, 31))[1]
    assert targeted(found) == {(TENANT, "all"): date(2024, 6, 10)}
    assert found.told.height == 0


def test_a_patched_or_silent_server_is_told_nothing() -> None:
    """Updated on 2024-02-01: from that day on; or last seen on 2024-01-31 and silent for 61 days on 04-01."""
    seen = days(NEW_YEAR, 31, EX2013)
    patched = [*seen, *days(date(2024, 2, 1), 5, PATCHED)]
    for messages, last_told in ((patched, date(2024, 1, 31)), (seen, date(2024, 3, 31))):
        for as_of, n_told in ((last_told, 1), (last_told + timedelta(days=1), 0)):
            assert planned(messages, policy(NOTICE), as_of)[1].told.height == n_told


def test_the_general_notice_and_the_calendar() -> None:
    to = policy(NOTICE + "stage_days_before = 7\n", cohorts=COHORT_OF_APRIL)
    known, found = planned(days(date(2024, 4, 1), 3, EX2013), to, date(2024, 4, 3))
    table = list(csv.DictReader(io.StringIO(notice_files(known, found)[f"{FOLDER}/calendar.csv"].decode())))
    told = [(row["notice"], row["must_go_out_on"], row["because"], row["comes_on"]) for row in table]
    assert told == [
        ("general", "2024-03-02", "cohort start", "2024-04-01"),
        ("targeted", "2024-04-01", "cohort start", "2024-04-01"),
        ("stage 2", "2024-04-24", "stage 2 (throttle)", "2024-05-01"),
        ("stage 3", "2024-05-04", "stage 3 (throttle)", "2024-05-11"),
        ("stage 4", "2024-05-14", "stage 4 (throttle)", "2024-05-21"),
        ("stage 5", "2024-05-24", "stage 5 (block partly)", "2024-05-31"),
        ("stage 6", "2024-06-03", "stage 6 (block more)", "2024-06-10"),
        ("stage 7", "2024-06-13", "stage 7 (block more)", "2024-06-20"),
        ("stage 8", "2024-06-23", "stage 8 (block all)", "2024-06-30"),
    ]
    assert {row["tenants"] for row in table} == {"1"}


def test_a_pause_moves_the_notices_of_stages() -> None:
    """Ten days of pause before stage 2: it comes on 2024-02-10 instead of 01-31, its notice seven days before."""
    to = policy(NOTICE + "stage_days_before = 7\n[pause]\ndays_per_year = 30\n")
    found = planned(days(NEW_YEAR, 5, EX2013), to, date(2024, 1, 5), pauses=[Pause(TENANT, date(2024, 1, 10), 10)])[1]
    of_two = found.due.filter(pl.col("notice") == "stage 2").select("must_go_out_on", "comes_on").rows()
    assert of_two == [(date(2024, 2, 3), date(2024, 2, 10))]


# --- the gate -----------------------------------------------------------------------------------------------------

AS_OF = date(2024, 1, 25)  # the clock began on 2024-01-01: stage 2 comes on 01-31
UNTIL = date(2024, 2, 8)


def judged(to: Policy, ledger: pl.DataFrame | None, as_of: date = AS_OF) -> list[str]:
    found = planned(days(NEW_YEAR, 60, EX2013), to, as_of)[1]
    return refusals(found, ledger, not_after=as_of + timedelta(days=14))


def test_mail_is_not_touched_before_its_targeted_notice_has_had_its_days() -> None:
    """The tenant turns up on 01-01 and is throttled from 01-31 on: 30 days of notice are kept, 31 are not."""
    assert judged(policy(NOTICE), None) == []
    (line,) = judged(policy(NOTICE + "targeted_days_before = 31\n"), None)
    assert line == (
        "targeted notice of cohort 'all', contoso.example: its mail is throttled or blocked on 2024-01-31; expected a "
        "notice on or before 2023-12-31, it goes out on 2024-01-01"
    )
    hasty = policy(NOTICE, stages="[{ days = 10 }, { block = 60 }]")
    assert "expected a notice on or before 2023-12-27" in judged(hasty, None)[0]
    # Nothing that touches mail comes within the export's days.
    assert judged(policy(NOTICE + "targeted_days_before = 31\n"), None, date(2024, 1, 10)) == []


def test_days_really_sent_count() -> None:
    """Stage 2 comes on 01-31: a notice of 01-01 is in time, one of 01-02 is not, none is told as none."""
    to = policy(NOTICE)
    assert judged(to, sent(("targeted", "all", TENANT, date(2024, 1, 1)))) == []
    (line,) = judged(to, sent(("targeted", "all", TENANT, date(2024, 1, 2))))
    assert line.endswith("expected a notice on or before 2024-01-01, it goes out on 2024-01-02")
    (line,) = judged(to, sent(("targeted", "other", TENANT, NEW_YEAR), ("targeted", "all", "other.example", NEW_YEAR)))
    assert line.endswith("none was sent")
    # Two weeks of notice before a stage in thirteen days: they can no longer be kept; in fifteen days they can.
    for n_days, is_refused in ((13, True), (14, False)):
        as_of = date(2024, 1, 31) - timedelta(days=n_days + 1)
        late = policy(NOTICE + "targeted_days_before = 14\n")
        found = planned(days(NEW_YEAR, 60, EX2013), late, as_of)[1]
        result = judge(found, sent(), not_after=date(2024, 2, 8))
        assert bool(result.refusals) is is_refused
        assert bool(result.assumed) is not is_refused


def test_without_a_ledger_the_export_says_what_it_supposes() -> None:
    found = planned(days(NEW_YEAR, 60, EX2013), policy(NOTICE), AS_OF)[1]
    assert judge(found, None, not_after=UNTIL).assumed == [
        "targeted notices: 1 are supposed to go out, or have gone out, on the days planned"
    ]
    assert judge(found, sent(("targeted", "all", TENANT, NEW_YEAR)), not_after=UNTIL) == ([], [])


def test_a_stage_is_not_touched_before_its_own_notice() -> None:
    """40 days before a stage at clock 30 cannot be kept; 6 can, from 01-25 on, but only by a notice of this spell."""
    targeted_in_time = ("targeted", "all", TENANT, NEW_YEAR)
    (line,) = judged(policy(NOTICE + "stage_days_before = 40\n"), None)
    assert line.startswith("notice of stage 2 of cohort 'all', contoso.example: stage 2 (throttle) on 2024-01-31")
    to = policy(NOTICE + "stage_days_before = 6\n")
    assert judged(to, None) == []
    for sent_on, is_refused in ((date(2024, 1, 25), False), (date(2024, 1, 26), True), (date(2023, 12, 31), True)):
        ledger = sent(targeted_in_time, ("stage 2", "all", TENANT, sent_on))
        assert bool(judged(to, ledger)) is is_refused, sent_on


def test_a_cohort_does_not_start_before_its_general_notice() -> None:
    """It starts on 04-01, the export holds from 03-21 to 04-03; as of 03-05 it would not reach it."""
    to = policy(NOTICE + "general_days_before = 20\n", cohorts=COHORT_OF_APRIL)
    as_of = date(2024, 3, 20)
    assert judged(to, None, as_of) == []
    assert judged(to, sent(("general", "all", "", date(2024, 3, 12))), as_of) == []
    (line,) = judged(to, sent(("general", "all", "", date(2024, 3, 13))), as_of)
    assert line.startswith(
        "general notice of cohort 'all': its start on 2024-04-01; expected a notice on or before 2024-03"
    )
    assert judged(to, sent(), date(2024, 3, 5)) == []


def test_a_policy_without_notices_has_no_gate() -> None:
    history = history_of(days(NEW_YEAR, 60, EX2013), {SERVER: TENANT})
    to = load_policy("ninety-days")
    way = course(history, to, background([]))
    assert plan(history, way, to, calendar(way.spans, history.servers, to, as_of=AS_OF), as_of=AS_OF) is None


def test_what_is_to_be_sent_today() -> None:
    """Due by today and not in the ledger; without a ledger, what is due on this very day."""
    to = policy(NOTICE + "stage_days_before = 6\n")
    found = planned(days(NEW_YEAR, 60, EX2013), to, AS_OF)[1]
    assert to_send(found, None).rows() == [("stage 2", "all", TENANT, AS_OF)]
    assert to_send(found, sent(("general", "all", "", NEW_YEAR))).rows() == [
        ("stage 2", "all", TENANT, AS_OF),
        ("targeted", "all", TENANT, AS_OF),
    ]
    assert to_send(found, pl.concat([to_send(found, sent()), sent()])).height == 0


def test_a_wrong_ledger_is_told_by_its_line() -> None:
    head = "notice,cohort,tenant,sent_on\n"
    for row, told in {
        "stage 0,all,t.example,2024-01-01": "expected general, targeted, or a stage",
        "general,all,t.example,2024-01-01": "expected none for a general notice",
        "targeted,all,,2024-01-01": "one for any other",
        "targeted,all,t.example,01/02/2024": "expected a date",
        "targeted,all": "one value for each column",
    }.items():
        with pytest.raises(ValueError, match=f"^sent.csv, line 2: .*{told}"):
            read_sent(head + row + "\n", source="sent.csv")
    with pytest.raises(ValueError, match=r"sent\.csv, line 1: expected the columns"):
        read_sent("a,b\n", source="sent.csv")


# --- the texts ----------------------------------------------------------------------------------------------------


def texts(known: Known, found: Plan, tenant: str = TENANT) -> tuple[str, str]:
    files = notice_files(known, found)
    name = f"{FOLDER}/tenants/{file_name(tenant)}"
    return files[f"{name}.md"].decode(), files[f"{name}.html"].decode()


def test_a_tenant_is_told_servers_builds_updates_dates_and_pauses() -> None:
    more = (
        NOTICE.replace("[notice]", '[export]\nservice_name = "Example Mail"\n[notice]')
        + "[pause]\ndays_per_year = 90\n"
    )
    seen = [*days(NEW_YEAR, 40, EX2016), *(Message(at("2024-01-05T10:00"), "old.contoso.example", EX2013),)]
    servers = {SERVER: TENANT, "old.contoso.example": TENANT}
    pauses = [Pause(TENANT, date(2024, 2, 20), 10)]
    known, found = planned(seen, policy(more), date(2024, 2, 9), servers=servers, pauses=pauses)
    for text in texts(known, found):
        for expected in (
            SERVER, "old.contoso.example", EX2016, EX2013, "Exchange Server 2016 CU23 Nov23SU", "15.1.2507.35",
            "KB5032146", "no update of Exchange Server 2013 is enough: move to", "2024-02-10", "2024-02-20",
            "2024-03-01",
            "all mail is refused", "https://mail.example/announcement", "In 2024, 10 of 90 days are asked for",
            "80 are left", "450 4.7.230 Connecting Exchange server version is out-of-date; connection to Example Mail",
            "paused or exempt",
        ):  # fmt: skip
            assert expected in text, expected
        assert "New-TenantExemptionInfo" not in text  # that is how another service does it
    (row,) = csv.DictReader(io.StringIO(notice_files(known, found)[f"{FOLDER}/merge.csv"].decode()))
    assert set(row) == set(MERGE)
    assert (row["servers"], row["pause_days_left"], row["next_stage_on"]) == ("2", "80", "2024-02-10")


HOSTILE = (
    "<script>alert(1)</script>", "a|b|c", "`code`", "``", "` `", "[x](javascript:alert(1))", "![x](http://evil.example/p)",
    "www.evil.example", "http://evil.example/", "*x*", "# heading", "- item", "1. one", "> quote", "a\\|b", "&lt;b&gt;",
    "=cmd|' /c calc'!a0", "../../etc/passwd", "{0}{}", "%s", '" onload="x', "a<!--", "]]>", "~~x~~", "<http://evil.example>",
    "+1", "@x", "𝕏 ünïcode", "con", "x" * 255,
)  # fmt: skip


class Tags(HTMLParser):
    """Collects elements, addresses and the text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: set[str] = set()
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links |= {str(value) for name, value in attrs if name in ("href", "src")}

    def handle_data(self, data: str) -> None:
        self.words += data


def read_page(html: str) -> Tags:
    page = Tags()
    page.feed(html)
    return page


SAFE_TAGS = {
    "html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "p", "a", "ul", "li", "div", "table", "thead",
    "tbody", "tr", "th", "td", "code", "figure", "figcaption", "svg", "rect", "text",
}  # fmt: skip
OURS = {"https://mail.example/announcement"}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_shown_and_nothing_else(name: str) -> None:
    """As a tenant, a cohort, a rule and a condition's text: letter by letter in both forms, and no markup."""
    quoted = json.dumps(name[:100], ensure_ascii=False)
    to = policy(
        NOTICE,
        cohorts=f"[{{ name = {quoted}, starts_on = 2000-01-01 }}]",
        rules=f"[{{ name = {quoted}, since = 'unsupported_since', when = \"product <> 'a|<b>`c`'\" }}]",
    )
    known, found = planned(days(NEW_YEAR, 40, EX2013), to, date(2024, 2, 9), servers={SERVER: name})
    files = notice_files(known, found)
    assert all(part.isascii() and ".." not in part for part in files)
    markdown, html = texts(known, found, name)
    page = read_page(html)
    assert page.tags <= SAFE_TAGS
    assert not [each for each in page.attributes if each.startswith("on")]
    assert page.links == OURS
    assert f"Exchange servers of {name} need updates" in page.words
    rendered = read_page(MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown))
    assert rendered.tags <= {"h1", "h2", "p", "a", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "code"}
    assert rendered.links == OURS
    assert f"Exchange servers of {name} need updates" in rendered.words
    assert f"group {name[:100]}" in rendered.words
    for part in ("general.md", "general.html"):
        text = files[f"{FOLDER}/{part}"].decode()
        again = read_page(text if "html" in part else MarkdownIt("commonmark").enable("table").render(text))
        assert again.links == OURS
        assert "a|<b>`c`" in again.words
    (row,) = csv.DictReader(io.StringIO(files[f"{FOLDER}/merge.csv"].decode()))
    assert row["tenant"].removeprefix("'") == name
    assert row["tenant"][0] not in "=+@-"
    assert read_sent(files[f"{FOLDER}/recipients.csv"].decode().replace("must_go_out_on", "sent_on"), source="")[
        "tenant"
    ].to_list() == [name]


def test_an_address_cannot_leave_its_link() -> None:
    url = "https://x.example/a?b=1&c=%20'>)<script>`|\\"
    to = policy(f"[notice]\nannouncement_url = {json.dumps(url)}\n")
    known, found = planned(days(NEW_YEAR, 40, EX2013), to, date(2024, 2, 9))
    expected = {"https://x.example/a?b=1&c=%20%27%3E%29%3Cscript%3E%60%7C%5C"}
    markdown, html = texts(known, found)
    assert read_page(html).links == expected == read_page(MarkdownIt("commonmark").render(markdown)).links


# --- the command --------------------------------------------------------------------------------------------------


def test_the_command_writes_a_folder_in_place_of_the_day_before(tmp_path: Path) -> None:
    """All files are there, and the next day's take their place."""
    to = tmp_path / "mine.toml"
    text = Path("data/policies/ninety-days.toml").read_text(encoding="utf-8").replace("ninety-days", "mine")
    to.write_text(text + "\n" + NOTICE + "stage_days_before = 5\n", encoding="utf-8")
    when = [f"2024-01-{day:02}T10:00" for day in range(1, 29)]
    store = store_of(tmp_path / "s.duckdb", [(time, SERVER, EX2013) for time in when])
    out = tmp_path / "out"
    first = answer("notices", to, "--as-of", "2024-01-26", "--store", store, "--out", out)
    assert first["to_send"] == [{"notice": "stage 2", "cohort": "all", "tenant": TENANT, "sent_on": "2024-01-26"}]
    assert (first["tenants_told"], first["refusals"]) == (1, [])
    ledger = tmp_path / "sent.csv"
    ledger.write_bytes((out / "to-send.csv").read_bytes())
    more = ("--notices-sent", ledger)
    then = answer("notices", to, "--as-of", "2024-01-27", "--store", store, "--out", out, *more)
    assert [row["notice"] for row in then["to_send"]] == ["general", "targeted"]
    assert then["refusals"][0].startswith("targeted notice of cohort 'all', contoso.example")


def test_only_notices_are_replaced(tmp_path: Path) -> None:
    """A folder with anything else in it is left alone, whatever its list says."""
    files = {f"{FOLDER}/general.md": b"x", f"{FOLDER}/tenants/a.md": b"y"}
    write_notices(files, tmp_path / "out")
    write_notices({f"{FOLDER}/general.md": b"z"}, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").rglob("*")) == ["general.md", "notices.json"]
    (tmp_path / "out" / "letter.txt").write_text("keep me")
    with pytest.raises(ValueError, match="holds more than notices"):
        write_notices(files, tmp_path / "out")
    assert (tmp_path / "out" / "letter.txt").read_text() == "keep me"
    (tmp_path / "out" / "letter.txt").unlink()
    for broken in (b"{", b"[]", b'{"a": 1}'):
        (tmp_path / "out" / "notices.json").write_bytes(broken)
        with pytest.raises(ValueError, match="holds more than notices"):
            write_notices(files, tmp_path / "out")


def test_a_policy_without_notices_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ninety-days asks for no notices"):
        notices_on("ninety-days", Setting(store=tmp_path / "s"), None)
