"""Notices of a day, from a store to a folder that they are mailed from."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from enforcement import shipped
from enforcement.course import course
from enforcement.export.calendar import calendar, last_day
from enforcement.export.manifest import canonical
from enforcement.export.notice_plan import Judged, Plan, judge, notice_calendar, plan, read_sent, to_send
from enforcement.export.notices import FOLDER, Known, notice_files
from enforcement.export.signing import strict_json
from enforcement.names import printable
from enforcement.policy import Policy
from enforcement.store import open_store
from enforcement.whole_folder import files_of, write_folder
from enforcement.workbench import Setting, ended

_RECORD: Final = "notices.json"  # what an earlier folder of notices is known by


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """The notices of a day: their plan, the files, what is to be sent, and what an export of the day would rely on."""

    planned: Plan
    files: dict[str, bytes]
    calendar: pl.DataFrame
    to_send: pl.DataFrame
    n_told: int
    judged: Judged


def notices_on(policy: str | Policy, setting: Setting, sent: Path | None) -> Announced:
    """Work out the notices of the last day asked for; a policy without notices is a ValueError."""
    rules = policy if isinstance(policy, Policy) else shipped.load_policy(policy)
    if rules.notice is None:
        raise ValueError(f"{rules.name} asks for no notices (expected a policy with [notice])")
    ledger = read_ledger_of_notices(sent)
    background = setting.background()
    with open_store(setting.store) as store:
        history, setting = ended(store, setting)
        as_of = setting.period(history).to_on
        way = course(history, rules, background)
        coming = calendar(way.spans, history.servers, rules, as_of=as_of)
        planned = plan(history, way, rules, coming, as_of=as_of)
        assert planned is not None
        known = Known(history=history, way=way, calendar=coming, catalogue=background.catalogue)
        files = notice_files(known, planned, ledger)
    return Announced(
        planned=planned,
        files=files,
        calendar=notice_calendar(planned, ledger, n_tenants=history.servers["tenant"].n_unique()),
        to_send=to_send(planned, ledger),
        n_told=sum(name.endswith(".md") for name in files) - 1,
        judged=judge(planned, ledger, not_after=last_day(as_of, rules)),
    )


def read_ledger_of_notices(path: Path | None) -> pl.DataFrame | None:
    """Read the ledger of notices sent; None: there is none."""
    return None if path is None else read_sent(shipped.read_text(path), source=path.name)


def write_notices(files: Mapping[str, bytes], out: Path) -> None:
    """Write notices into a folder: all of them or none; those of an earlier day are gone, anything else is refused."""
    out = out.resolve()
    if out.exists() and not _is_ours(out):
        raise ValueError(f"{printable(str(out))} is there and holds more than notices (expected a new folder)")
    named = {name.removeprefix(f"{FOLDER}/"): content for name, content in files.items()}
    listed = {name: hashlib.sha256(content).hexdigest() for name, content in named.items()}
    write_folder({**named, _RECORD: canonical(listed)}, out)


def _is_ours(folder: Path) -> bool:
    """Tell whether a folder is empty, or holds notices as they were written and nothing else."""
    if not folder.is_dir():
        return False
    found = files_of(folder)
    if not found:
        return not any(folder.iterdir())
    try:
        listed = strict_json((folder / _RECORD).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(listed, dict) and found <= {*map(str, listed), _RECORD}
