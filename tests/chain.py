"""Real mail as its Exchange servers would hand it over, and what the model says of each of them."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl

from enforcement.builds import Hop
from enforcement.course import course
from enforcement.decision import Decision, decide
from enforcement.explain import Seen, state_of
from enforcement.importers.mail_files import header_fields
from enforcement.policy import Policy
from enforcement.received import Route, read_chain, received_lines
from enforcement.store import open_store
from enforcement.workbench import Setting


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail cut above its hand-over line: what the server itself sent, and when."""

    received: list[str]
    server: str
    build: str
    sent_at: datetime


def mails_of(box: Path) -> Iterator[Mail]:
    """Every mail that has a hand-over, with what stood above that line cut away."""
    for fields in header_fields(box):
        lines = received_lines(fields)
        hops, _ = read_chain(lines)
        for line, stamp, seconds in hops:
            if stamp.hop is Hop.SMTP and not stamp.is_cloud and stamp.is_usable and seconds is not None:
                at = datetime(1970, 1, 1) + timedelta(seconds=seconds)
                yield Mail(lines[lines.index(line) :], str(stamp.server), str(stamp.build), at)
                break


def chosen(mails: Sequence[Mail], touched: pl.DataFrame, *, n_mails: int, n_days: int) -> dict[date, list[Mail]]:
    """Take mails of the days with the most messages of touched pairs: those first, by day."""
    pairs = {(day, server, build) for day, server, build in touched.select("day", "server", "build").iter_rows()}
    by_day: dict[date, list[Mail]] = defaultdict(list)
    for mail in mails:
        by_day[mail.sent_at.date()].append(mail)
    most = sorted(by_day, key=lambda day: -sum((day, m.server, m.build) in pairs for m in by_day[day]))[:n_days]
    ordered = sorted(
        (mail for day in most for mail in by_day[day]),
        key=lambda mail: ((mail.sent_at.date(), mail.server, mail.build) not in pairs, mail.sent_at),
    )[:n_mails]
    found: dict[date, list[Mail]] = defaultdict(list)
    for mail in sorted(ordered, key=lambda mail: mail.sent_at):
        found[mail.sent_at.date()].append(mail)
    return dict(found)


def touched_pairs(store: Path, policy: Policy) -> pl.DataFrame:
    """The servers and builds in a stage that delays or refuses mail, by day."""
    with open_store(store) as opened:
        history = opened.history()
        way = course(history, policy, Setting(store=store).background())
        sent = opened.query("select distinct sent_at::date as day, server, build from traffic")
    spans = way.segments.join(history.servers, on="server_id").join(history.builds, on="build_id")
    until = pl.col("until_on").is_null() | (pl.col("day") < pl.col("until_on"))
    clock = pl.col("clock_at_start") + (pl.col("day") - pl.col("from_on")).dt.total_days()
    is_touched = (pl.col("day") >= pl.col("from_on")) & until & (clock >= policy.stage_starts[1])
    return sent.join(spans, on=["server", "build"]).filter(is_touched)


def judged(store: Path, policy: Policy, day: date, mails: Sequence[Mail]) -> list[tuple[Decision, bool]]:
    """What `replay` says of each mail on the store cut at its day, and whether its server is first subject then."""
    background = Setting(store=store).background()
    with open_store(store) as opened:
        history = opened.history(to_on=day)
        way = course(history, policy, background)
    servers = {row["server"]: row for row in history.servers.iter_rows(named=True)}
    found = []
    for mail in mails:
        seen = Seen(server=servers[mail.server], build=mail.build, hop=Hop.SMTP, route=Route.DIRECT)
        state = state_of(seen, way, policy, background.catalogue, mail.sent_at)
        found.append((decide(state, policy, mail.sent_at), state.spell_from_on == day))
    return found
