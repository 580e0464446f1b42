"""What the tests of reports share: a small history with hostile names in it, a hostile policy, and pages of both."""

import sys
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl

from enforcement import intake, report
from enforcement.importers.batch import Batch
from enforcement.report import RunResult
from enforcement.sample import Extent
from enforcement.schema import HANDOVERS, REJECTS, SIGHTINGS
from enforcement.shipped import policy_file
from enforcement.store import create_store

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-first-run",
]  # fmt: skip

# What an attacker would type into a policy, or put into a table of traffic.
HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
TEMPLATED = "{{ 7 * 7 }} {% raw %} ${7*7} [click](javascript:document.title='owned')"
BUTTON = "<a href=\"javascript:document.title='owned'\">free</a>"

POLICY = f"""
schema_version = 1
name = "hostile"
title = '''{HOSTILE}'''
author = '''{TEMPLATED}'''
reference = '''{BUTTON}'''
rules = [{{ name = '''{BUTTON}''', since = "missing_since", after_days = 90 }},
         {{ name = "unsupported", since = "unsupported_since" }}]
cohorts = [{{ name = '''<b>all</b> {{{{ 7 * 7 }}}}''', starts_on = 2000-01-01 }}]
stages = [{{ days = 30 }}, {{ days = 20, throttle = 30 }}, {{ days = 20, throttle = 20, block = 20 }}, {{ block = 60 }}]
[[exemptions]]
tenant = "exempt.example"
reason = '''{HOSTILE}'''
until = 2030-01-01
"""

# Two bounds: one that the exposure alone can judge, one that needs to know who is hit.
GUARDRAILS = """
[[guardrails]]
measure = "lost_share_of_mail"
per = "total"
at_most = 0.5
min_messages = 100
[[guardrails]]
measure = "lost_share_of_mail"
per = "tenant"
at_most = 0.9
min_messages = 100
"""


def small_store(path: Path) -> Path:
    """Make a sample of 20,000 messages, and a tenant beside it whose name is markup."""
    intake.make_sample(path, Extent(messages=20_000, servers=150, days=120, last_on=date(2026, 10, 31)))
    start = datetime(2026, 7, 6, 9, 10)
    rows = [(start + timedelta(days=n), "mx.hostile.example", "15.1.2507.35", HOSTILE, "smtp", "direct", 400)
            for n in range(0, 110, 2)]  # fmt: skip
    batch = Batch(
        handovers=pl.DataFrame(rows, schema=dict(HANDOVERS), orient="row"),
        sightings=pl.DataFrame(schema=dict(SIGHTINGS)),
        rejects=pl.DataFrame([(3, HOSTILE, HOSTILE)], schema=dict(REJECTS), orient="row"),
        rows_read=len(rows) + 1,
    )
    with create_store(path) as store:
        store.add(source=f"{HOSTILE}.csv", sha256="0" * 64, options={}, batches=[batch])
    return path


def hostile_policy(folder: Path) -> Path:
    """Write a policy whose every text is an attack."""
    path = folder / "hostile.toml"
    path.write_text(POLICY, encoding="utf-8")
    return path


def own_policy(folder: Path, *, guardrail: str = "") -> Path:
    """Write a copy of the reference policy under another name, with a guardrail if one is given."""
    path = folder / "mine.toml"
    text = policy_file("ninety-days").read_text(encoding="utf-8").replace('"ninety-days"', '"mine"', 1)
    path.write_text(text + guardrail, encoding="utf-8")
    return path


def made(name: str, parameters: dict[str, object], *, store: Path, out: Path) -> RunResult:
    """Run a report that must succeed."""
    result = report.run_report(name, parameters, store=store, out=out)
    assert result.state == "done", result.error
    return result


PYTHON = sys.executable
