"""The pages and tables for all tenants, written into a folder."""

import base64
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import polars as pl

from enforcement import charts, picture_tables, report_strip
from enforcement.coming import coming
from enforcement.course import course
from enforcement.names import file_name, shown, tenant_name
from enforcement.replay import unmatched
from enforcement.report_runs import TEMPLATE, held, write_whole
from enforcement.spreadsheet import safe_csv
from enforcement.tenant_pages import tenant_page
from enforcement.tenant_report import TenantReports, tenant_reports
from enforcement.workbench import Setting, fleet_on, opened_history

LIST_NAME: Final = "tenants.csv"
_COLUMNS: Final = {"tenant": pl.String, "servers": pl.Int64, "next_on": pl.Date, "page": pl.String, "table": pl.String}


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What was written: a row a tenant, the next change first, and how many files of an earlier list are gone."""

    reports: TenantReports
    listed: pl.DataFrame
    removed: int


def reports_on(policy: str, setting: Setting) -> TenantReports:
    """Gather what every tenant must know, as of the setting's last day."""
    known = fleet_on(policy, setting)
    background = setting.background()
    with opened_history(setting) as history:
        way = course(history, known.policy, background)
    of_all = tenant_reports(
        servers=known.servers,
        coming=coming(way.spans, known.history.servers, known.policy, as_of=known.as_of),
        granted=way.granted.pauses,
        catalogue=background.catalogue,
        policy=known.policy,
        as_of=known.as_of,
    )
    beyond = way.granted.ungranted
    ungranted = [
        f"pause of {tenant} from {start}: {days} days are not granted" for tenant, start, days in beyond.rows()
    ]
    slips = unmatched(known.history.servers, known.policy, background.pauses)
    return replace(of_all, remarks=(*ungranted, *slips))


def write_tenants(of: TenantReports, out: Path, only: list[str] | None = None) -> Written:
    """Write a page and a table for each tenant that has something to do, or for those named alone.

    Of all tenants: also a list of them, and the files that an earlier list names and this one does not are removed.
    """
    chosen = of.tenants if only is None else [_known(of, name) for name in only]
    style = (TEMPLATE / "page.css").read_text(encoding="utf-8")
    drawn = charts.schedule_strip(picture_tables.schedule({of.policy.name: of.policy})).to_dict()
    strip = f"data:image/svg+xml;base64,{base64.b64encode(report_strip.still(drawn).encode()).decode()}"
    by_tenant = of.rows.partition_by("tenant", as_dict=True)
    with held(out):
        before = _files_before(out) if only is None else set()
        rows = []
        for tenant in chosen:
            name = file_name(tenant)
            mine = by_tenant.get((tenant,), of.rows.clear())
            write_whole(out / f"{name}.html", tenant_page(of, tenant, style=style, strip=strip))
            write_whole(out / f"{name}.csv", safe_csv(mine))
            rows.append((tenant, mine["server"].n_unique(), mine["next_on"].min(), f"{name}.html", f"{name}.csv"))
        listed = pl.DataFrame(rows, schema=_COLUMNS, orient="row").sort("next_on", "tenant", nulls_last=True)
        gone = before - {*listed["page"], *listed["table"]}
        for name in gone:
            (out / name).unlink(missing_ok=True)
        if only is None:
            write_whole(out / LIST_NAME, safe_csv(listed))
    return Written(reports=of, listed=listed, removed=len(gone))


def _known(of: TenantReports, name: str) -> str:
    spelt = tenant_name(name)
    if spelt not in of.n_seen and spelt not in set(of.rows["tenant"]):
        raise LookupError(f"no tenant {shown(name)} in sight on {of.as_of} (expected one that `fleet` knows)")
    return spelt


def _files_before(out: Path) -> set[str]:
    """Give the files of an earlier list; those of other origin are nobody's to remove."""
    path = out / LIST_NAME
    if not path.is_file():
        if any(not name.name.startswith(".") for name in out.iterdir()):
            raise ValueError(f"{out} holds something else (expected a new folder, or one that this command has filled)")
        return set()
    try:
        listed = pl.read_csv(path, schema_overrides=dict.fromkeys(_COLUMNS, pl.String))
        tenants = [(row["tenant"], row["page"], row["table"]) for row in listed.iter_rows(named=True)]
    except (pl.exceptions.PolarsError, KeyError) as problem:
        raise ValueError(
            f"{path}: not a list of tenants: {problem} (expected a folder that this command has filled)"
        ) from None
    # A name that this program would not have given is not one of its files.
    return {
        name
        for tenant, page, spreadsheet in tenants
        for name in (page, spreadsheet)
        if name and _is_ours(name) and tenant is not None
    }


def _is_ours(name: str) -> bool:
    stem, dot, kind = name.rpartition(".")
    return bool(dot) and kind in ("html", "csv") and name != LIST_NAME and _is_plain(stem)


def _is_plain(stem: str) -> bool:
    plain, _, digest = stem.rpartition("_")
    return file_name(stem) == stem or (bool(plain) and digest.isalnum() and file_name(plain) == plain)
