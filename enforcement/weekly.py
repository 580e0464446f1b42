"""What a weekly report asks of a store: the fleet now and a week before, what is next, a forecast and what came."""

from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Final

import polars as pl

from enforcement.chance import Floats
from enforcement.coming import coming
from enforcement.comparison import Comparison, compare
from enforcement.drifts import Drift, drift
from enforcement.forecasts import Question, forecast, standpoint_of
from enforcement.history import History, Period
from enforcement.policy import Policy
from enforcement.replay import Replay
from enforcement.rollout import Trial
from enforcement.standing import standings
from enforcement.store import open_store
from enforcement.week import DAYS, HELD, held_against, stands
from enforcement.workbench import Fleet, Setting, fleet_on, opened_history, replay_policies

_WEEKS: Final = 4  # that the guardrails and the outcome by day are about


@dataclass(frozen=True, slots=True, kw_only=True)
class Weekly:
    """A week that ends on a day: the fleet, how servers stand now and stood before, what comes, what was forecast.

    stands_before: None when the history does not reach that far back; forecast: None when none could be made, and
    why_no_forecast says why; mail: messages expected by weekday, and what came; decisions: verdict, stage, decisions
    of the week; drift: these held against the policy, None where there are none; last_mail_on: the last day with a
    hand-over.
    """

    period: Period
    policy: Policy
    fleet: Fleet
    stands: pl.DataFrame
    stands_before: pl.DataFrame | None
    coming: pl.DataFrame
    compared: Comparison
    forecast: pl.DataFrame | None
    why_no_forecast: str
    mail: tuple[float, float]
    decisions: pl.DataFrame
    drift: Drift | None
    last_mail_on: date

    @property
    def as_of(self) -> date:
        """The day that the week ends on."""
        return self.period.to_on

    @property
    def before(self) -> date:
        """The day that it is compared with."""
        return self.as_of - timedelta(days=DAYS)

    @property
    def replay(self) -> Replay:
        """What the policy makes of the last weeks' mail."""
        return self.compared.first.replay


def week_of(policy: str, setting: Setting, trial: Trial) -> Weekly:
    """Gather what a week's report tells, up to the setting's last day; the policy is taken to be in force."""
    fleet = fleet_on(policy, setting)
    history = fleet.history
    period = setting.period(history)
    rules, as_of = fleet.policy, period.to_on
    now = replace(setting, to_on=as_of)
    first = max(period.from_on, as_of - timedelta(days=7 * _WEEKS - 1))
    compared = compare(replay_policies([rules], replace(now, from_on=first)))
    replay = compared.first.replay
    has_before = as_of - timedelta(days=DAYS) >= period.from_on
    before = replace(setting, from_on=None, to_on=as_of - timedelta(days=DAYS))
    held, why, mail = _forecast(rules, now, before, trial, replay) if has_before else (None, _TOO_SHORT, (0.0, 0.0))
    decisions = _decisions(setting, as_of)
    return Weekly(
        period=period,
        policy=rules,
        fleet=fleet,
        stands=stands(fleet.servers, rules, period),
        stands_before=_stands(rules, before) if has_before else None,
        coming=coming(replay.course.spans, history.servers, rules, as_of=as_of),
        compared=compared,
        forecast=held,
        why_no_forecast=why,
        mail=mail,
        decisions=decisions,
        drift=None if decisions.is_empty() else _drift(rules, now, as_of),
        last_mail_on=history.period().to_on,
    )


_TOO_SHORT: Final = f"the history has no mail of {DAYS} days before"


def _stands(rules: Policy, setting: Setting) -> pl.DataFrame:
    then = fleet_on(rules, setting)
    return stands(then.servers, rules, setting.period(then.history))


def _forecast(
    rules: Policy, now: Setting, before: Setting, trial: Trial, replay: Replay
) -> tuple[pl.DataFrame | None, str, tuple[float, float]]:
    """Forecast the week from the history until its beginning, and hold it against the week as it came."""
    try:
        drawn = forecast(Question(policies=[rules], baseline=rules, n_days=DAYS), before, trial).rollout.outcomes
        with opened_history(before) as history:
            then = standpoint_of(history, rules, before)
        with opened_history(now) as history:
            vulnerable = _still_vulnerable(history, rules, now, then.servers)
    except (LookupError, ValueError) as problem:
        return None, str(problem), (0.0, 0.0)
    week = replay.by_day.filter(pl.col("day") > before.to_on)
    came = week.select(pl.col("accepted_vulnerable", "delayed", "lost").sum()).row(0, named=True)
    draws: dict[str, Floats] = {name: drawn[name][0][:, 1:].sum(axis=1) for name in HELD if name in came}
    draws["vulnerable_servers"] = drawn["vulnerable_servers"][0][:, -1]
    expected = float(then.volume.sum(axis=(0, 2))[then.weekdays(DAYS)[1:]].sum())
    held = held_against(draws, {**came, "vulnerable_servers": vulnerable})
    return held, "", (expected, float(week["read"].sum()))


def _still_vulnerable(history: History, rules: Policy, setting: Setting, known: pl.DataFrame) -> int:
    """Count the servers, of those known a week ago, that are in sight and vulnerable."""
    at = standpoint_of(history, rules, setting)
    table = standings(history.builds, setting.background().catalogue, rules).select("build_id", "vulnerable_from")
    mine = at.servers.join(known.select("server_id"), on="server_id", how="semi").join(table, on="build_id")
    return mine.filter(pl.col("vulnerable_from") <= at.as_of).height


def _drift(rules: Policy, now: Setting, as_of: date) -> Drift:
    week = replace(now, from_on=as_of - timedelta(days=DAYS - 1), to_on=as_of)
    return drift(rules, week, as_of=as_of, report=lambda *_: None)


def _decisions(setting: Setting, as_of: date) -> pl.DataFrame:
    with open_store(setting.store) as store:
        return store.query(
            """
            select verdict, stage, count(*) as decisions, count(distinct server) as servers
            from decisions where decided_at >= ?::date and decided_at < ?::date + 1
            group by all order by all
            """,
            [as_of - timedelta(days=DAYS - 1), as_of],
        )
