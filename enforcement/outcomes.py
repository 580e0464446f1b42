"""What becomes of the exposed messages under schedules: at once, delayed, rejected, expired, and how late."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from enforcement.exposure import MINUTES, STILL, Exposure
from enforcement.fates import AT_ONCE, COUNTS, EXPIRED, REJECTED, RETRIES, Floats, fates, shares_of
from enforcement.policy import Policy
from enforcement.stage_sums import StageSums, Worth
from enforcement.verdict import Held, Sender

FIGURES: Final = ("mean", "p50", "p95", "p99")
_SHARES: Final = np.array([0.50, 0.95, 0.99])
_POLICIES_AT_ONCE: Final = 50  # what is gathered for them stays in the processor's cache
_LATE_NOTICE_MINUTES: Final = (
    4 * 60
)  # DelayNotificationTimeout: Microsoft, "Message retry, resubmit, and expiration intervals"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """Outcomes of subject messages; with several senders counts are expected values over their shares.

    by_day: day, COUNTS, lost_at_risk (lost messages of builds at risk); by_group: product, decile and the same;
    by_stage: stage (from 1), phase, messages and COUNTS; delays: stage, delay_minutes, messages: how late the delayed
    ones came.
    """

    by_day: pl.DataFrame
    by_stage: pl.DataFrame
    by_group: pl.DataFrame
    delays: pl.DataFrame


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """Outcomes of many policies, as arrays whose first axis is the policy.

    Counts end in an axis of COUNTS: by_day (policies, rows of `days`, …), by_stage (policies, most stages, …: 0 past a
    policy's last), by_group (rows of `groups`), by_product, by_decile. Delays end in an axis of FIGURES, in minutes,
    not a number where nothing was delayed: stage_delay, product_delay, decile_delay. `late` is messages by stage and
    `delay_minutes`.
    """

    policies: tuple[Policy, ...]
    days: pl.DataFrame
    groups: pl.DataFrame
    products: tuple[str, ...]
    deciles: tuple[int, ...]
    delay_minutes: tuple[int, ...]
    by_day: Floats
    by_stage: Floats
    by_group: Floats
    by_product: Floats
    by_decile: Floats
    stage_delay: Floats
    product_delay: Floats
    decile_delay: Floats
    late: Floats

    @property
    def totals(self) -> Floats:
        """COUNTS of all messages of each policy: (policies, COUNTS)."""
        return self.by_stage.sum(axis=1)

    @property
    def lost_at_risk(self) -> Floats:
        """Lost messages of builds at risk, of each policy."""
        at_risk = self.days["at_risk"].to_numpy()
        return self.by_day[:, at_risk][:, :, [REJECTED, EXPIRED]].sum(axis=(1, 2))

    def outcomes(self, place: int = 0) -> Outcomes:
        """Give one policy's outcomes as tables."""
        phases = self.policies[place].phases
        n_stages = len(phases)
        stage, delay = np.nonzero(self.late[place])
        by_stage = pl.DataFrame(
            {"stage": range(1, n_stages + 1), "phase": [str(phase) for phase in phases]},
            schema={"stage": pl.Int16, "phase": pl.String},
        ).hstack(_counted(self.by_stage[place, :n_stages]))
        return Outcomes(
            by_day=_at_risk_apart(self.days, self.by_day[place]),
            by_stage=by_stage.select("stage", "phase", pl.sum_horizontal(COUNTS[:RETRIES]).alias("messages"), *COUNTS),
            by_group=_at_risk_apart(self.groups, self.by_group[place]),
            delays=pl.DataFrame(
                {
                    "stage": (stage + 1).astype(np.int16),
                    "delay_minutes": np.array(self.delay_minutes, dtype=np.int32)[delay],
                    "messages": self.late[place][stage, delay],
                }
            ),
        )


class Judge:
    """Judges schedules on an exposure; the traffic is not read again.

    What it works out for a pair of blocked and throttled minutes it keeps, so that the next schedule is only a few
    subtractions.

    >>> from datetime import date
    >>> from enforcement.exposure import CLOCKS, MINUTES, Counts
    >>> from enforcement.policy import Cohort, Rule, Stage
    >>> exchange = Sender(name="Exchange", share=1.0, retry_minutes=(15,), gives_up_after_hours=48)
    >>> policy = Policy(schema_version=1, name="small", rules=[Rule(name="unpatched", since="missing_since")],
    ...     cohorts=[Cohort(name="all", starts_on=date(2026, 1, 1))],
    ...     stages=[Stage(days=30), Stage(throttle=20, block=10)])
    >>> cells = np.array([5 * MINUTES, 35 * MINUTES, 35 * MINUTES + 12])
    >>> units = pl.DataFrame({"day": [date(2026, 3, 1)]}), pl.DataFrame({"product": ["2016"], "decile": [1]})
    >>> units = [unit.with_columns(at_risk=True) for unit in units]
    >>> counts = [Counts(units=unit, cells=cells, messages=np.array([4, 2, 3])) for unit in units]
    >>> judge = Judge(Exposure(by_day=counts[0], by_group=counts[1]), [exchange])
    >>> judge.judge(policy).outcomes().by_stage.select("stage", "at_once", "delayed", "rejected").rows()
    [(1, 4.0, 0.0, 0.0), (2, 0.0, 3.0, 2.0)]
    """

    def __init__(self, exposure: Exposure, senders: Sequence[Sender]) -> None:
        self._days, self._groups = exposure.by_day.units, exposure.by_group.units
        self._products = tuple(self._groups["product"].unique().sort())
        self._deciles = tuple(self._groups["decile"].unique().sort())
        self._is_product = _members(self._groups["product"], self._products)
        self._is_decile = _members(self._groups["decile"], self._deciles)
        self._delay_minutes = fates([], senders).delay_minutes
        shares = shares_of(senders)
        self._by_day = StageSums(exposure.by_day, Worth(lambda pairs: fates(pairs, senders).counts, shares))
        self._by_group = StageSums(exposure.by_group, Worth(lambda pairs: _with_delays(pairs, senders), shares))

    def judge(self, policy: Policy) -> Judged:
        """Judge one policy: all totals, by day, stage, product and decile."""
        return self.judge_many([policy])

    def judge_many(self, policies: Sequence[Policy]) -> Judged:
        """Judge policies that differ in their stages alone; one matrix product serves all of them."""
        pairs = dict.fromkeys(minutes for policy in policies for minutes in policy.stage_minutes)
        self._by_day.prepare(list(pairs))
        self._by_group.prepare(list(pairs))
        parts = [
            self._judged(policies[start : start + _POLICIES_AT_ONCE])
            for start in range(0, len(policies), _POLICIES_AT_ONCE)
        ]
        n_stages = max(len(policy.stages) for policy in policies)
        joined = {name: np.concatenate([_padded(part[name], name, n_stages) for part in parts]) for name in parts[0]}
        return Judged(
            policies=tuple(policies),
            days=self._days,
            groups=self._groups,
            products=self._products,
            deciles=self._deciles,
            delay_minutes=self._delay_minutes,
            **joined,
        )

    def _judged(self, policies: Sequence[Policy]) -> dict[str, Floats]:
        days = self._by_day.sums(policies).sum(axis=1)  # (policies, COUNTS, days)
        groups = self._by_group.sums(policies)  # (policies, stages, COUNTS and delays, groups)
        of_stage, of_group = groups.sum(axis=3), groups.sum(axis=1)
        of_product, of_decile = of_group @ self._is_product, of_group @ self._is_decile
        n = len(COUNTS)
        by_product, by_decile = of_product.swapaxes(1, 2), of_decile.swapaxes(1, 2)
        return {
            "by_day": days.swapaxes(1, 2),
            "by_stage": of_stage[..., :n],
            "by_group": of_group[:, :n].swapaxes(1, 2),
            "by_product": by_product[..., :n],
            "by_decile": by_decile[..., :n],
            "stage_delay": delays_figured(of_stage[..., n:], self._delay_minutes),
            "product_delay": delays_figured(by_product[..., n:], self._delay_minutes),
            "decile_delay": delays_figured(by_decile[..., n:], self._delay_minutes),
            "late": of_stage[..., n:],
        }


def server_outcomes(by_server: pl.DataFrame, policy: Policy, senders: Sequence[Sender]) -> pl.DataFrame:
    """Judge EXPOSURE_BY_SERVER, whose rows of a unit stand together: server_id, at_risk, stage and COUNTS.

    >>> from datetime import date
    >>> from enforcement.policy import Cohort, Rule, Stage
    >>> exchange = Sender(name="Exchange", share=1.0, retry_minutes=(15,), gives_up_after_hours=48)
    >>> policy = Policy(schema_version=1, name="small", rules=[Rule(name="unpatched", since="missing_since")],
    ...     cohorts=[Cohort(name="all", starts_on=date(2026, 1, 1))],
    ...     stages=[Stage(days=30), Stage(throttle=20, block=10)])
    >>> met = {"server_id": [1, 1], "at_risk": True, "stage": [2, 2], "running": True, "k": [0, 59], "messages": [2, 3]}
    >>> server_outcomes(pl.DataFrame(met), policy, [exchange]).select("stage", "at_once", "rejected").rows()
    [(2, 3.0, 2.0)]
    """
    table = fates(policy.stage_minutes, senders).expected(senders)
    still = np.zeros((len(table), 1, len(COUNTS)))
    still[..., AT_ONCE] = 1.0
    worth = np.concatenate([table, still], axis=1)  # (stages, MINUTES, COUNTS)
    unit = ("server_id", "at_risk", "stage")
    units = by_server.select(unit).unique(maintain_order=True)
    changes = by_server.select(pl.struct(unit).rle_id()).to_series().to_numpy()
    cell = (by_server["stage"].cast(pl.Int64) - 1) * MINUTES + by_server["k"].fill_null(STILL)
    messages = by_server["messages"].to_numpy()
    counts = [
        np.bincount(changes, messages * measure[cell.to_numpy()], units.height)
        for measure in worth.reshape(-1, len(COUNTS)).T
    ]
    return units.hstack(pl.DataFrame(counts, schema=COUNTS))


def delays_figured(late: Floats, delay_minutes: Sequence[int]) -> Floats:
    """Give FIGURES of the delay of the delayed, in minutes; not a number where nothing was delayed.

    Takes messages by how late they came along the last axis. A percentile is the smallest delay at which the cumulated
    count reaches that share.

    >>> delays_figured(np.array([[3.0, 1.0], [0.0, 0.0]]), [15, 30]).tolist()
    [[18.75, 15.0, 30.0, 30.0], [nan, nan, nan, nan]]
    """
    minutes = np.array([*delay_minutes, np.nan])
    total = late.sum(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        mean = late @ minutes[:-1, np.newaxis] / total
    # Expected values carry rounding errors far below one message; they must not move a percentile.
    reached = late.cumsum(axis=-1) + 1e-9 * total
    place = (reached[..., np.newaxis, :] < (total * _SHARES)[..., np.newaxis]).sum(axis=-1)
    return np.concatenate([mean, minutes[np.where(total > 0, place, len(delay_minutes))]], axis=-1)


def delay_figures(delays: pl.DataFrame) -> dict[str, float | None]:
    """Give mean and percentiles of the delay of the delayed, in minutes; None: nothing was delayed.

    >>> delay_figures(pl.DataFrame({"delay_minutes": [15, 30], "messages": [3.0, 1.0]}))
    {'mean': 18.75, 'p50': 15.0, 'p95': 30.0, 'p99': 30.0}
    """
    by_delay = delays.group_by("delay_minutes").agg(pl.col("messages").sum()).sort("delay_minutes")
    found = delays_figured(by_delay["messages"].to_numpy(), by_delay["delay_minutes"].to_list())
    return {name: None if np.isnan(figure) else float(figure) for name, figure in zip(FIGURES, found, strict=True)}


def late_notices(delays: pl.DataFrame) -> float:
    """Count the messages so late that their senders were told of it (over 4 h).

    >>> late_notices(pl.DataFrame({"delay_minutes": [240, 255], "messages": [3.0, 1.0]}))
    1.0
    """
    return float(delays.filter(pl.col("delay_minutes") > _LATE_NOTICE_MINUTES)["messages"].sum())


def _with_delays(pairs: Sequence[Held], senders: Sequence[Sender]) -> Floats:
    table = fates(pairs, senders)
    return np.concatenate([table.counts, table.delays], axis=3)


def _members(of: pl.Series, parts: Sequence[object]) -> Floats:
    """Say which group belongs to which part: (groups, parts), 1 or 0."""
    return np.array([of == part for part in parts], dtype=np.float64).reshape(len(parts), len(of)).T


def _padded(part: Floats, name: str, n_stages: int) -> Floats:
    """Fill arrays by stage up to the most stages of any policy."""
    if name not in ("by_stage", "stage_delay", "late") or part.shape[1] == n_stages:
        return part
    filler = np.nan if name == "stage_delay" else 0.0
    return np.pad(part, ((0, 0), (0, n_stages - part.shape[1]), (0, 0)), constant_values=filler)


def _at_risk_apart(units: pl.DataFrame, counts: Floats) -> pl.DataFrame:
    """Add up units that are and are not at risk; of the lost, those at risk are also counted alone."""
    keys = [name for name in units.columns if name != "at_risk"]
    lost = (pl.col("rejected") + pl.col("expired")).filter(pl.col("at_risk"))
    return (
        units.hstack(_counted(counts))
        .group_by(keys, maintain_order=True)
        .agg(pl.col(*COUNTS).sum(), lost_at_risk=lost.sum())
    )


def _counted(counts: Floats) -> pl.DataFrame:
    return pl.DataFrame(np.ascontiguousarray(counts), schema=COUNTS)
