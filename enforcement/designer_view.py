"""What a designer sees of a policy's effect, as numbers ready to draw: on the exposure alone, no traffic is read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from enforcement.catalogue import Catalogue
from enforcement.exposed import Exposed
from enforcement.fates import COUNTS, DELAYED, EXPIRED, REJECTED, Floats
from enforcement.outcomes import Judge, Judged
from enforcement.policy import Policy, Unit
from enforcement.policy_words import what_differs
from enforcement.replay import judged_guardrails
from enforcement.schema import day_number
from enforcement.standing import standings, vulnerable_from
from enforcement.verdict import Sender

MEASURES: Final = ("delayed", "lost", "risk_left")
ON_SAVE: Final = "computed on save"
_DECILES: Final = 10
_SHOWN: Final = 5  # builds and servers that a rule catches


@dataclass(frozen=True, kw_only=True, eq=False)
class Ground:
    """What was counted once and every schedule is judged on: arrays by day, and by decile of tenants.

    place, at_risk: of each unit of the exposure by day: its day, from 0, and whether its builds are at risk.
    """

    judge: Judge
    days: tuple[date, ...]
    read: Floats
    vulnerable: Floats
    subject: Floats
    decile_read: Floats
    place: npt.NDArray[np.int64]
    at_risk: npt.NDArray[np.bool_]
    mail: pl.DataFrame

    @classmethod
    def of(cls, exposed: Exposed, senders: Sequence[Sender]) -> "Ground":
        """Make ready what is the same for all schedules."""
        days = pl.date_range(*exposed.period, eager=True).alias("day")
        deciles = pl.Series("decile", range(1, _DECILES + 1), dtype=pl.Int8)
        units = exposed.exposure.by_day.by_unit()
        place = (units["day"].cast(pl.Int32) - day_number(exposed.period.from_on)).cast(pl.Int64).to_numpy()
        return cls(
            judge=Judge(exposed.exposure, senders),
            days=tuple(days),
            read=_along(days, exposed.base, "read"),
            vulnerable=_along(days, exposed.base, "vulnerable"),
            subject=_summed(place, units["messages"].cast(pl.Float64).to_numpy(), len(days)),
            decile_read=_along(deciles, exposed.base, "read"),
            place=place,
            at_risk=units["at_risk"].to_numpy(),
            mail=exposed.mail.filter(pl.col("read") > 0),
        )


def _summed(place: npt.NDArray[np.int64], weights: Floats, n: int) -> Floats:
    return np.bincount(place, weights, n).astype(np.float64)


def _along(of: pl.Series, base: pl.DataFrame, what: str) -> Floats:
    """Add up a column of TRAFFIC_BASE by a key, in the order of its values; 0 where there is none."""
    summed = base.group_by(of.name).agg(pl.col(what).sum().cast(pl.Float64))
    return pl.DataFrame(of).join(summed, on=of.name, how="left", maintain_order="left")[what].fill_null(0).to_numpy()


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What becomes of the mail under a policy: messages by day and by decile, as COUNTS, and the risk left by day."""

    policy: Policy | None
    by_day: Floats
    risk_left: Floats
    by_decile: Floats

    @property
    def measures(self) -> dict[str, Floats]:
        """MEASURES by day; delayed and lost are never added up."""
        return dict(zip(MEASURES, (*_harms(self.by_day), self.risk_left), strict=True))


def outcome(ground: Ground, policy: Policy) -> Outcome:
    """Judge a policy on what was counted."""
    judged = ground.judge.judge(policy)
    n_days, of_unit = len(ground.days), judged.by_day[0]
    by_day = np.stack([_summed(ground.place, of_unit[:, at], n_days) for at in range(len(COUNTS))], axis=1)
    lost_at_risk = _summed(ground.place, _harms(of_unit)[1] * ground.at_risk, n_days)
    return Outcome(
        policy=policy, by_day=by_day, risk_left=ground.vulnerable - lost_at_risk, by_decile=_by_decile(judged)
    )


def nothing_enforced(ground: Ground) -> Outcome:
    """Give what becomes of the mail when nothing is enforced."""
    return Outcome(
        policy=None,
        by_day=np.zeros((len(ground.days), len(COUNTS))),
        risk_left=ground.vulnerable,
        by_decile=np.zeros((_DECILES, len(COUNTS))),
    )


def _by_decile(judged: Judged) -> Floats:
    found = np.zeros((_DECILES, len(COUNTS)))
    for decile, counts in zip(judged.deciles, judged.by_decile[0], strict=True):
        found[decile - 1] = counts
    return found


def _harms(counts: Floats) -> tuple[Floats, Floats]:
    return counts[..., DELAYED], counts[..., REJECTED] + counts[..., EXPIRED]


def picture(ground: Ground, of: Outcome) -> dict[str, Any]:
    """Give shares of the day's mail, of a decile's mail, and of all mail; where there is no mail there is none."""
    delayed, lost = _harms(of.by_decile)
    totals = {name: float(each.sum()) for name, each in of.measures.items()}
    read = float(ground.read.sum())
    return {
        "by_day": {name: shares(each, ground.read) for name, each in of.measures.items()},
        "deciles": {"delayed": shares(delayed, ground.decile_read), "lost": shares(lost, ground.decile_read)},
        "totals": totals,
        "shares": {name: total / read if read else None for name, total in totals.items()},
    }


def shares(of: Floats, base: Floats) -> list[float | None]:
    """Give shares of a base, none where that is empty, with as many digits as a picture can show."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.round(of / base, 6)
    return [share if some else None for some, share in zip((base > 0).tolist(), found.tolist(), strict=True)]


def guardrails(ground: Ground, of: Outcome) -> list[dict[str, Any]]:
    """Judge the guardrails that need the exposure alone; those of tenants are computed on save."""
    if of.policy is None or not of.policy.guardrails:
        return []
    counts = {name: of.by_day[:, at] for at, name in enumerate(COUNTS)}
    by_day = pl.DataFrame({
        "day": ground.days, "read": ground.read, "subject": ground.subject, **counts, "lost": _harms(of.by_day)[1],
        "accepted_vulnerable": of.risk_left,
    })  # fmt: skip
    judged = iter(judged_guardrails(of.policy, by_day, None).to_dicts())
    return [
        {"measure": str(rail.measure), "per": str(rail.per), "at_most": rail.at_most, "state": ON_SAVE}
        if rail.per is Unit.TENANT
        else next(judged)
        for rail in of.policy.guardrails
    ]


def differs(saved: Policy | None, draft: Policy) -> list[list[str]]:
    """Say in words what differs from the saved policy: what, as saved, as drawn."""
    if saved is None:
        return []
    return [list(row) for row in what_differs({"saved": saved, "now": draft}).iter_rows()]


def builds_under(builds: pl.DataFrame, catalogue: Catalogue, policy: Policy) -> pl.DataFrame:
    """Say of each build what the rules make of it: STANDINGS, and rule_0, …: the day from which each alone counts."""
    table = standings(builds, catalogue, policy)
    alone = [vulnerable_from(rule).alias(f"rule_{index}") for index, rule in enumerate(policy.rules)]
    return pl.concat([table, table.with_columns(build="proves").select(*alone)], how="horizontal")


def catches(table: pl.DataFrame, mail: pl.DataFrame, on: date) -> list[dict[str, int]]:
    """Count the builds that each rule alone calls vulnerable on a day, with their servers and messages.

    Takes what builds_under gives, and MAIL_BY_PAIR.
    """
    rules = [name for name in table.columns if name.startswith("rule_")]
    return [_counted(_sent(found := table.filter(pl.col(rule) <= on), mail), found) for rule in rules]


def _sent(builds: pl.DataFrame, mail: pl.DataFrame) -> pl.DataFrame:
    return mail.filter(pl.col("build_id").is_in(builds["build_id"].implode()))


def _seen(builds: pl.DataFrame, sent: pl.DataFrame) -> pl.Series:
    """Name the builds that sent any mail; one seen on two kinds of hop is one."""
    return builds.filter(pl.col("build_id").is_in(sent["build_id"].unique().implode()))["build"].unique()


def _counted(sent: pl.DataFrame, builds: pl.DataFrame) -> dict[str, int]:
    return {
        "builds": len(_seen(builds, sent)),
        "servers": sent["server_id"].n_unique(),
        "messages": int(sent["read"].sum()),
    }


def caught(table: pl.DataFrame, mail: pl.DataFrame, servers: pl.DataFrame, on: date, rule: int) -> dict[str, Any]:
    """Name the builds and servers that a rule alone calls vulnerable on a day, those with most mail first."""
    builds = table.filter(pl.col(f"rule_{rule}") <= on)
    sent = _sent(builds, mail)
    by_build = (
        sent.group_by("build_id")
        .agg(servers=pl.len(), messages=pl.col("read").sum())
        .join(builds.select("build_id", "build", "hop", "update"), on="build_id")
    )
    by_server = sent.group_by("server_id").agg(messages=pl.col("read").sum())
    most = by_server.top_k(10 * _SHOWN, by="messages")
    named = most.join(servers.select("server_id", "server", "tenant"), on="server_id")
    most_first = [True, False]
    return {
        "rule": rule,
        **_counted(sent, builds),
        "top_builds": by_build.sort("messages", "build", descending=most_first)
        .head(_SHOWN)
        .drop("build_id")
        .to_dicts(),
        "n_builds": by_build.height,
        "top_servers": named.sort("messages", "server", descending=most_first)
        .head(_SHOWN)
        .drop("server_id")
        .to_dicts(),
    }


def moved(table: pl.DataFrame, saved: pl.DataFrame, mail: pl.DataFrame, on: date) -> Mapping[str, Any]:
    """Say what all rules together newly catch, and what they let go, against those of the saved policy."""
    before = saved.select("build_id", before=(pl.col("vulnerable_from") <= on).fill_null(value=False))
    both = table.join(before, on="build_id").with_columns(now=(pl.col("vulnerable_from") <= on).fill_null(value=False))
    found = {}
    for name, is_so in (("gained", pl.col("now") & ~pl.col("before")), ("let_go", pl.col("before") & ~pl.col("now"))):
        builds = both.filter(is_so)
        sent = _sent(builds, mail)
        names = _seen(builds, sent).sort().head(_SHOWN).to_list()
        found[name] = _counted(sent, builds) | {"names": names}
    return found
