"""What becomes of the exposed messages under a schedule: at once, delayed, rejected, expired, and how late."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from enforcement.exposure import LARGEST_CLOCK, Exposure
from enforcement.policy import Policy, Stage
from enforcement.verdict import Outcome, Sender, follow

Floats = npt.NDArray[np.float64]

# What is counted of messages; `retries` counts deferred tries, the others each message once.
COUNTS: Final = ("at_once", "delayed", "rejected", "expired", "retries")
_COUNT_OF: Final = {
    Outcome.AT_ONCE: 0,
    Outcome.DELAYED: 1,
    Outcome.REJECTED: 2,
    Outcome.EXPIRED: 3,
}
_RETRIES: Final = 4
_LATE_NOTICE_MINUTES: Final = (
    4 * 60
)  # DelayNotificationTimeout: Microsoft, "Message retry, resubmit, and expiration intervals"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """Outcomes of subject messages; with several senders counts are expected values over their shares.

    by_day: day and COUNTS; by_stage: stage (from 1), phase, messages and COUNTS; by_group: product, decile and COUNTS;
    delays: stage, delay_minutes, messages: how late the delayed ones came.
    """

    by_day: pl.DataFrame
    by_stage: pl.DataFrame
    by_group: pl.DataFrame
    delays: pl.DataFrame


@dataclass(frozen=True, slots=True, kw_only=True)
class Fates:
    """The outcome of one message by stage and minute of the window: (stages, 60, COUNTS) and (stages, 60, delays)."""

    counts: Floats
    delays: Floats
    delay_minutes: tuple[int, ...]


def fates(stages: Sequence[Stage], senders: Sequence[Sender]) -> Fates:
    """Work out the outcome tables of stages for a mix of senders.

    >>> exchange = Sender(name="Exchange", share=1.0, retry_minutes=(15,), gives_up_after_hours=48)
    >>> table = fates([Stage(throttle=20, block=5)], [exchange])
    >>> table.delay_minutes, table.counts[0].sum(axis=0).tolist()
    ((15, 30), [35.0, 20.0, 5.0, 0.0, 25.0])
    """
    met = [
        (index, k, sender.share, follow(k, throttle=stage.throttle, block=stage.block, sender=sender))
        for index, stage in enumerate(stages)
        for k in range(60)
        for sender in senders
    ]
    minutes = tuple(sorted({fate.delay_minutes for *_, fate in met if fate.outcome is Outcome.DELAYED}))
    counts = np.zeros((len(stages), 60, len(COUNTS)))
    delays = np.zeros((len(stages), 60, len(minutes)))
    for index, k, share, fate in met:
        counts[index, k, _COUNT_OF[fate.outcome]] += share
        counts[index, k, _RETRIES] += share * fate.retries
        if fate.outcome is Outcome.DELAYED:
            delays[index, k, minutes.index(fate.delay_minutes)] += share
    return Fates(counts=counts, delays=delays, delay_minutes=minutes)


def judge(exposure: Exposure, policy: Policy, senders: Sequence[Sender]) -> Outcomes:
    """Judge a policy's stages on an exposure; the traffic is not read again.

    >>> from datetime import date
    >>> from enforcement.policy import Cohort, Rule
    >>> exchange = Sender(name="Exchange", share=1.0, retry_minutes=(15,), gives_up_after_hours=48)
    >>> policy = Policy(schema_version=1, name="small", rules=[Rule(name="unpatched", since="missing_since")],
    ...     cohorts=[Cohort(name="all", starts_on=date(2026, 1, 1))],
    ...     stages=[Stage(days=30), Stage(throttle=20, block=10)])
    >>> counts = pl.DataFrame({"clock": [5, 35, 35], "running": True, "k": [0, 0, 12], "messages": [4, 2, 3]})
    >>> exposed = Exposure(by_day=counts.with_columns(day=date(2026, 3, 1)),
    ...     by_group=counts.with_columns(product=pl.lit("2016"), decile=pl.lit(1)))
    >>> judge(exposed, policy, [exchange]).by_stage.select("stage", "at_once", "delayed", "rejected").rows()
    [(1, 4.0, 0.0, 0.0), (2, 0.0, 3.0, 2.0)]
    """
    table = fates(policy.stages, senders)
    by_day_stage, running = _by_stage(exposure.by_day, ["day"], policy, table)
    by_group_stage, _ = _by_stage(exposure.by_group, ["product", "decile"], policy, table)
    phases = pl.DataFrame(
        {"stage": range(1, len(policy.stages) + 1), "phase": [str(phase) for phase in policy.phases]},
        schema={"stage": pl.Int16, "phase": pl.String},
    )
    return Outcomes(
        by_day=_added(by_day_stage, ["day"]),
        by_stage=phases.join(_added(by_day_stage, ["stage"]), on="stage", how="left")
        .with_columns(pl.col(*COUNTS).fill_null(0.0))
        .select("stage", "phase", pl.sum_horizontal(COUNTS[:_RETRIES]).alias("messages"), *COUNTS),
        by_group=_added(by_group_stage, ["product", "decile"]),
        delays=_late(running.sum(axis=0), table),
    )


def server_outcomes(by_server: pl.DataFrame, policy: Policy, senders: Sequence[Sender]) -> pl.DataFrame:
    """Judge EXPOSURE_BY_SERVER: columns server_id, stage and COUNTS.

    >>> from datetime import date
    >>> from enforcement.policy import Cohort, Rule
    >>> exchange = Sender(name="Exchange", share=1.0, retry_minutes=(15,), gives_up_after_hours=48)
    >>> policy = Policy(schema_version=1, name="small", rules=[Rule(name="unpatched", since="missing_since")],
    ...     cohorts=[Cohort(name="all", starts_on=date(2026, 1, 1))],
    ...     stages=[Stage(days=30), Stage(throttle=20, block=10)])
    >>> met = pl.DataFrame({"server_id": [1, 1], "stage": [2, 2], "running": True, "k": [0, 59], "messages": [2, 3]})
    >>> server_outcomes(met, policy, [exchange]).select("server_id", "stage", "at_once", "rejected").rows()
    [(1, 2, 3.0, 2.0)]
    """
    table = fates(policy.stages, senders)
    counted, _ = _judged(by_server, ["server_id"], by_server["stage"].to_numpy() - 1, table)
    return counted


def delay_figures(delays: pl.DataFrame) -> dict[str, float | None]:
    """Give mean and percentiles of the delay of the delayed, in minutes; None: nothing was delayed.

    A percentile is the smallest delay at which the cumulated count reaches that share.

    >>> delay_figures(pl.DataFrame({"delay_minutes": [15, 30], "messages": [3.0, 1.0]}))
    {'mean': 18.75, 'p50': 15, 'p95': 30, 'p99': 30}
    """
    by_delay = delays.group_by("delay_minutes").agg(pl.col("messages").sum()).sort("delay_minutes")
    total = float(by_delay["messages"].sum())
    if not total:
        return {"mean": None, "p50": None, "p95": None, "p99": None}
    mean = float((by_delay["delay_minutes"] * by_delay["messages"]).sum()) / total
    # Expected values carry rounding errors far below one message; they must not move a percentile.
    reached = by_delay["messages"].cum_sum() + 1e-9 * total
    percentiles = {
        f"p{share}": by_delay["delay_minutes"].item(int((reached < total * share / 100).sum()))
        for share in (50, 95, 99)
    }
    return {"mean": mean, **percentiles}


def late_notices(delays: pl.DataFrame) -> float:
    """Count the messages so late that their senders were told of it (over 4 h).

    >>> late_notices(pl.DataFrame({"delay_minutes": [240, 255], "messages": [3.0, 1.0]}))
    1.0
    """
    return float(delays.filter(pl.col("delay_minutes") > _LATE_NOTICE_MINUTES)["messages"].sum())


def _by_stage(rows: pl.DataFrame, keys: list[str], policy: Policy, table: Fates) -> tuple[pl.DataFrame, Floats]:
    stage_of_clock = np.array([policy.stage_at(clock) for clock in range(LARGEST_CLOCK + 1)])
    return _judged(rows, keys, stage_of_clock[rows["clock"].to_numpy()], table)


def _judged(
    rows: pl.DataFrame, keys: list[str], stage: npt.NDArray[np.int64], table: Fates
) -> tuple[pl.DataFrame, Floats]:
    """Judge counts by key, stage and minute; also give the counts that met a running clock (keys, stages, 60)."""
    groups = rows.select(keys).unique(maintain_order=True)
    n_groups, n_stages = groups.height, table.counts.shape[0]
    group = rows.select(keys).join(groups.with_row_index("group"), on=keys, how="left", maintain_order="left")["group"]
    cell = (group.to_numpy().astype(np.int64) * n_stages + stage) * 60 + rows["k"].to_numpy()
    messages = rows["messages"].to_numpy().astype(np.float64)
    is_running = rows["running"].to_numpy()
    shape = (n_groups, n_stages, 60)
    running = _cells(cell[is_running], messages[is_running], shape)
    still = _cells(cell[~is_running], messages[~is_running], shape)
    counts = np.matmul(running.transpose(1, 0, 2), table.counts).transpose(1, 0, 2)  # (groups, stages, COUNTS)
    counts[:, :, _COUNT_OF[Outcome.AT_ONCE]] += still.sum(axis=2)
    judged = (
        groups.join(
            pl.DataFrame({"stage": np.arange(1, n_stages + 1, dtype=np.int16)}),
            how="cross",
            maintain_order="left_right",
        )
        .hstack(pl.DataFrame(counts.reshape(-1, len(COUNTS)), schema=COUNTS))
        .filter(pl.sum_horizontal(COUNTS) > 0)
    )
    return judged, running


def _cells(cell: npt.NDArray[np.int64], messages: Floats, shape: tuple[int, int, int]) -> Floats:
    return np.bincount(cell, messages, minlength=int(np.prod(shape))).astype(np.float64).reshape(shape)


def _added(judged: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    return judged.group_by(keys).agg(pl.col(*COUNTS).sum()).sort(keys)


def _late(running: Floats, table: Fates) -> pl.DataFrame:
    """How late the delayed messages came: (stages, 60) counts against the delays of their minutes."""
    late = np.einsum("sk,skd->sd", running, table.delays)
    stage, delay = np.nonzero(late)
    return pl.DataFrame(
        {
            "stage": (stage + 1).astype(np.int16),
            "delay_minutes": np.array(table.delay_minutes, dtype=np.int32)[delay],
            "messages": late[stage, delay],
        }
    )
