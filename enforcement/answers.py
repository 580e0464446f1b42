"""Answers in the JSON that scripts rely on."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl

from enforcement.comparison import Comparison
from enforcement.decision import Decision
from enforcement.differences import differences
from enforcement.policy import NO_POLICY
from enforcement.policy_words import what_differs
from enforcement.replay import OVER_A_TENTH_LOST, Replay
from enforcement.report import RunResult
from enforcement.store_records import ImportRecord

_OUTCOMES = ("at_once", "delayed", "rejected", "expired")


def replay_answer(result: Replay) -> dict[str, Any]:
    """Give a replay as scripts read it."""
    totals = result.totals
    return {
        "policy": result.policy.name,
        "from": result.period.from_on,
        "to": result.period.to_on,
        "messages": {name: totals[name] for name in ("read", "in_scope", "subject")},
        "evidence": dict(result.evidence.iter_rows()),
        "untouched": dict(result.untouched.iter_rows()),
        "spells": result.n_spells,
        "servers_subject": result.servers.filter(pl.col("subject") > 0).height,
        "tenants_subject": result.tenants.filter(pl.col("subject") > 0).height,
        "totals": {name: totals[name] for name in (*_OUTCOMES, "lost", "retries", "accepted_vulnerable")}
        | {"delay_minutes": result.delay_minutes, "delay_notices": result.delay_notices},
        "by_day": result.by_day.select(
            "day", "read", "in_scope", "subject", *_OUTCOMES, "accepted_vulnerable"
        ).to_dicts(),
        "by_stage": result.by_stage.select("stage", "phase", "messages", *_OUTCOMES).to_dicts(),
        "hit": {
            unit: {
                "any_delayed": hit.filter(pl.col("delayed") > 0).height,
                "any_lost": hit.filter(pl.col("lost") > 0).height,
                "over_a_tenth_lost": hit.filter(OVER_A_TENTH_LOST).height,
            }
            for unit, hit in (("servers", result.servers), ("tenants", result.tenants))
        },
        "guardrails": result.guardrails.to_dicts(),
    }


def compare_answer(compared: Comparison) -> list[dict[str, Any]]:
    """Give proposals beside the baseline as scripts read them, one each."""
    changed = differences(compared)
    told = ("measure", "value", "baseline", "difference")
    return [
        {
            "policy": proposal.name,
            "baseline": compared.baseline.name if compared.baseline else NO_POLICY,
            "from": compared.period.from_on,
            "to": compared.period.to_on,
            "totals": changed.filter(policy=proposal.name, part="all").select(told).to_dicts(),
            **{
                f"by_{part}": changed.filter(policy=proposal.name, part=part)
                .rename({"of": part})
                .select(part, *told)
                .to_dicts()
                for part in ("product", "decile")
            },
            "guardrails": proposal.replay.guardrails.to_dicts(),
            "policies_differ_in": what_differs(
                {each.name: each.replay.policy for each in (compared.baseline, proposal) if each}
            ).to_dicts(),
        }
        for proposal in compared.proposals
    ]


def import_answer(record: ImportRecord) -> dict[str, Any]:
    """Give what was imported as scripts read it."""
    return {
        "import_id": record.import_id,
        "source": record.source,
        "sha256": record.sha256,
        "rows_read": record.rows_read,
        "rows_stored": record.rows_stored,
        "rows_rejected": record.rows_rejected,
        "already_imported": record.already_imported,
    }


def decision_answer(decision: Decision) -> dict[str, Any]:
    """Give a decision as scripts read it."""
    return asdict(decision)


def report_answer(result: RunResult) -> dict[str, Any]:
    """Give a run of a report as scripts read it."""
    return {
        "name": result.name,
        "run": result.run,
        "state": str(result.state),
        "page": str(result.page),
        "already_run": result.already_run,
        "error": result.error,
    }


def as_json(answer: object) -> str:
    r"""Write an answer as JSON; a count that is whole is written as a whole number.

    >>> as_json({"day": date(2026, 1, 31), "delayed": 3.0, "mean": 20.5})
    '{\n  "day": "2026-01-31",\n  "delayed": 3,\n  "mean": 20.5\n}'
    """
    return json.dumps(_plain(answer), indent=2, ensure_ascii=False)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, date | datetime):
        return value.isoformat()
    return str(value) if isinstance(value, Path) else value
