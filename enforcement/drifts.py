"""What production logged, held against a policy: each decision judged again, and the mail beside that expected."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any, Final

import narwhals as nw
import polars as pl

from enforcement import drift_volume, shipped
from enforcement.course import Background, course
from enforcement.drift import LOGGED, ExportBasis, judged_again
from enforcement.drift_volume import Band, Why
from enforcement.export.manifest import serial_day
from enforcement.export.target import Reason
from enforcement.history import History
from enforcement.policy import Policy
from enforcement.received import Route
from enforcement.schema import conform, day_number
from enforcement.store import Store, open_store
from enforcement.workbench import Setting

_CASES: Final = 10

_AGGREGATED: Final = """
select policy_serial, server, tenant, build, decided_at::date as day, minute(decided_at) as minute, verdict, reason,
    stage, count(*) as decisions, min(decided_at) as first_at
from decisions where decided_at::date between ? and ? group by all order by all
"""
_ENDS: Final = "select min(decided_at)::date as first, max(decided_at)::date as last from decisions"


@dataclass(frozen=True, kw_only=True)
class Drift:
    """How production's decisions compare with a policy.

    judged: LOGGED with what was expected and `agrees`; volume: by tenant and stage, of the days compared; gaps: GAPS;
    expected: in all, None where there is no mail to compare with; days: those compared; blind_until: the last day that
    an export rests on of which, or of any before, the store has no mail.
    """

    policy: Policy
    from_on: date
    to_on: date
    judged: pl.DataFrame
    volume: pl.DataFrame
    gaps: pl.DataFrame
    expected: Band | None
    observed: int
    days: int
    blind_until: date | None

    @cached_property
    def decisions(self) -> int:
        """How many decisions were logged."""
        return int(self.judged["decisions"].sum())

    @cached_property
    def failures(self) -> int:
        """How many were made without tables that could be trusted."""
        return int(self.judged.filter(reason=str(Reason.FAILURE))["decisions"].sum())

    @cached_property
    def disagreements(self) -> int:
        """How many are not as the policy would have it."""
        return int(self._disagreeing["decisions"].sum())

    @property
    def _disagreeing(self) -> pl.DataFrame:
        return self.judged.filter(~pl.col("agrees").fill_null(value=True))

    @property
    def is_volume_as_expected(self) -> bool:
        """Whether as much mail came under enforcement as was expected, as far as that can be told."""
        return self.expected is None or self.expected.low <= self.observed <= self.expected.high

    @property
    def is_as_expected(self) -> bool:
        """Whether nothing differs."""
        return not self.disagreements and not self.failures and self.is_volume_as_expected

    def serials(self) -> pl.DataFrame:
        """List the exports that decided: policy_serial, as_of, decisions, disagreements."""
        days = {serial: serial_day(serial) for serial in self.judged["policy_serial"].drop_nulls().unique()}
        return (
            self.judged.group_by("policy_serial")
            .agg(
                decisions=pl.col("decisions").sum(),
                disagreements=pl.col("decisions").filter(~pl.col("agrees").fill_null(value=True)).sum(),
            )
            .with_columns(as_of=pl.col("policy_serial").replace_strict(days, return_dtype=pl.Date, default=None))
            .select("policy_serial", "as_of", "decisions", "disagreements")
            .sort("policy_serial", nulls_last=True)
        )

    def disagreeing(self) -> pl.DataFrame:
        """Count the decisions that are not the policy's: tenant, stage, decisions, of (all of tenant and stage)."""
        count = pl.col("decisions")
        return (
            self.judged.filter(pl.col("agrees").is_not_null())
            .group_by("tenant", stage=pl.coalesce("stage", "expected_stage"))
            .agg(disagreements=count.filter(~pl.col("agrees")).sum(), decisions=count.sum())
            .filter(pl.col("disagreements") > 0)
            .sort("disagreements", "tenant", "stage", descending=[True, False, False], nulls_last=True)
        )

    def cases(self) -> pl.DataFrame:
        """Give the first decisions that are not the policy's, with what it would have said."""
        return (
            self._disagreeing.sort("first_at", "server", "build", nulls_last=True)
            .head(_CASES)
            .select(
                "policy_serial", at="first_at", server="server", build="build", verdict="verdict", reason="reason",
                stage="stage", expected_verdict="expected_verdict", expected_reason="expected_reason",
                expected_stage="expected_stage",
            )
        )  # fmt: skip

    def sentence(self) -> str:
        """Say in one sentence whether production is as expected, or what differs."""
        told = []
        if self.disagreements:
            told.append(
                f"{self.disagreements:,} of {self.decisions:,} decisions are not what an export of {self.policy.name}"
                f" would have said: {self._why()}"
            )
        if self.failures:
            told.append(f"{self.failures:,} decisions were made without tables that could be trusted")
        if not self.is_volume_as_expected and self.expected is not None:
            more = "more" if self.observed > self.expected.high else "less"
            told.append(
                f"{more} mail came under enforcement than expected: {self.observed:,} decisions,"
                f" {self.expected.expected:,.0f} expected ({self.expected.low:,.0f} to {self.expected.high:,.0f})"
                f"{self._explained()}"
            )
        if told:
            return f"Not as expected: {'; '.join(told)}."
        mail = (
            f", and {self.observed:,} of them on mail under enforcement, {self.expected.low:,.0f} to"
            f" {self.expected.high:,.0f} expected"
            if self.expected
            else "; there is no mail before to tell how many should have come"
        )
        return f"As expected: all {self.decisions:,} decisions are those of {self.policy.name}{mail}."

    def _why(self) -> str:
        if self.blind_until is None:
            return "the policy on the server is another one, or not the one modelled"
        return f"the store holds no mail until {self.blind_until}, on which an export rests (import that mail first)"

    def _explained(self) -> str:
        counts = dict(self.gaps.group_by("why").len().iter_rows())
        named = [f"{counts[why]:,} {_WORDS[why]}" for why in Why if why in counts]
        return f"; seen beside it: {', '.join(named)}" if named else "; no server explains it"


_WORDS: Final = {
    Why.NEW: "new servers",
    Why.PATCHED: "patched",
    Why.RENAMED: "under another name",
    Why.GONE: "no longer seen",
}


def drift(
    policy: str | Policy, setting: Setting, *, as_of: date | None = None, report: Callable[[str, int, int], None]
) -> Drift:
    """Hold the decisions of a store against a policy.

    `as_of`: neither decisions nor mail of later days are known. A log without decisions is a LookupError.
    """
    rules = policy if isinstance(policy, Policy) else shipped.load_policy(policy)
    background = setting.background()
    with open_store(setting.store) as store:
        logged = _logged(store, setting, as_of)
        held: list[pl.DataFrame] = []
        ahead: list[pl.DataFrame] = []
        n_weeks = drift_volume.N_WEEKS
        compared: set[date] = set()
        blind_until: date | None = None
        serial_of = drift_volume.serial_of_day(logged)
        serials = logged["policy_serial"].unique().sort().to_list()
        for number, serial in enumerate(serials):
            report("judging decisions again", number, len(serials))
            of_serial = logged.filter(pl.col("policy_serial").eq_missing(pl.lit(serial)))
            made = serial_day(serial) if serial is not None else None
            if made is None:
                held.append(_unjudged(of_serial))
                continue
            history = store.history(to_on=made)
            if history.last_on is None:
                blind_until = made
            point = ExportBasis(
                as_of=made,
                policy=rules,
                catalogue=background.catalogue,
                servers=history.servers,
                way=course(history, rules, background),
            )
            held.append(judged_again(of_serial, point))
            days = [day for day, most in serial_of.items() if most == serial and made < day <= point.not_after]
            found = _foreseen(history, days, point, background)
            if found is not None:
                ahead.append(found[0])
                n_weeks = min(n_weeks, found[1])
                compared |= set(days)
    judged = pl.concat(held)
    came = logged.filter(pl.col("day").is_in(sorted(compared)))
    weeks = pl.concat(ahead) if ahead else pl.DataFrame(schema=dict(drift_volume.FORESEEN))
    ahead_of_all = weeks.group_by("server", "tenant", "build", "stage", "week").agg(
        pl.col("decisions").sum(), pl.col("spread").sum()
    )
    first, last = judged["day"].min(), judged["day"].max()
    assert isinstance(first, date)
    assert isinstance(last, date)
    return Drift(
        policy=rules,
        from_on=first,
        to_on=last,
        judged=judged,
        volume=drift_volume.by_tenant_and_stage(ahead_of_all, came, n_weeks),
        gaps=drift_volume.gaps(ahead_of_all, came if compared else logged, n_weeks),
        expected=drift_volume.in_all(ahead_of_all, n_weeks) if compared else None,
        observed=drift_volume.observed_in_all(came),
        days=len(compared),
        blind_until=blind_until,
    )


def _logged(store: Store, setting: Setting, as_of: date | None) -> pl.DataFrame:
    to_on = min((day for day in (setting.to_on, as_of) if day is not None), default=date.max)
    from_on = setting.from_on or date.min
    logged = conform(store.query(_AGGREGATED, [from_on, to_on]), LOGGED, what="decisions")
    if logged.is_empty():
        ends = store.query(_ENDS).row(0)
        if ends[0] is None:
            raise LookupError("the store holds no decisions (import the log of a milter, or Exim's main log)")
        raise LookupError(f"no decisions on the days asked for (the store has {ends[0]} to {ends[1]})")
    return logged


def _unjudged(logged: pl.DataFrame) -> pl.DataFrame:
    """Give decisions without a serial: only those without tables may have none."""
    is_failure = pl.col("reason") == str(Reason.FAILURE)
    return logged.with_columns(
        expected_verdict=pl.lit(None, dtype=pl.String),
        expected_reason=pl.lit(None, dtype=pl.String),
        expected_stage=pl.lit(None, dtype=pl.Int64),
        agrees=pl.when(~is_failure).then(pl.lit(value=False)),
    )


def _foreseen(
    history: History, days: list[date], point: ExportBasis, background: Background
) -> tuple[pl.DataFrame, int] | None:
    """Say what is to be expected on days, and of how many weeks that is known; None: of none."""
    traffic = history.traffic
    first_on, last_on = drift_volume.weeks_before(point.as_of)
    if not days or history.last_on is None:
        return None
    n_weeks = drift_volume.weeks_known(point.as_of, history.period().from_on)
    day = nw.col("day")
    recent = traffic.days.filter((day >= day_number(first_on)) & (day <= day_number(last_on)))
    direct = recent.filter(nw.col("route").cast(nw.String) == str(Route.DIRECT))
    handed = traffic.collected(direct.group_by("server_id", "build_id", "day").agg(nw.col("messages").sum()))
    if not n_weeks or handed.is_empty():
        return None
    handed = handed.select(
        pl.col("server_id").cast(pl.Int32),
        pl.col("build_id").cast(pl.Int32),
        pl.col("day").cast(pl.Int32).cast(pl.Date),
        pl.col("messages").cast(pl.Int64),
    )
    return drift_volume.foreseen(handed, days, point, background.senders), n_weeks


def drift_answer(found: Drift) -> dict[str, Any]:
    """Give a drift as scripts read it."""
    return {
        "policy": found.policy.name,
        "from": found.from_on,
        "to": found.to_on,
        "as_expected": found.is_as_expected,
        "verdict": found.sentence(),
        "decisions": found.decisions,
        "disagreements": found.disagreements,
        "failures": found.failures,
        "serials": found.serials().to_dicts(),
        "disagreeing": found.disagreeing().to_dicts(),
        "cases": found.cases().to_dicts(),
        "volume": {
            "days": found.days,
            "observed": found.observed,
            "expected": None if found.expected is None else found.expected._asdict(),
            "by_tenant_and_stage": found.volume.to_dicts(),
        },
        "explained_by": found.gaps.to_dicts(),
    }
