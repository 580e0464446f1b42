"""Write an export: the chosen policy, its servers' calendar, and the manifest, in one folder at once."""

import io
import json
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from enforcement.export.exim import exim_files
from enforcement.export.manifest import MANIFEST_NAME, Origin, manifest
from enforcement.export.postfix import postfix_files
from enforcement.export.rego import rego_files
from enforcement.export.signing import ENVELOPE_NAME, SigningKey, envelope
from enforcement.export.vectors import Oracle, vectors_jsonl
from enforcement.guardrails import State
from enforcement.policy_text import canonical_json
from enforcement.replay import Replay
from enforcement.spreadsheet import safe_csv
from enforcement.whole_folder import files_of, write_folder


class ExportError(ValueError):
    """An export that cannot be written where it is wanted."""


class RefusedError(ExportError):
    """A policy that must not go out: its guardrails, pauses or notices do not hold."""


def export_files(oracle: Oracle, origin: Origin, more: Mapping[str, bytes], key: SigningKey | None) -> dict[str, bytes]:
    """Give the files of an export, name → content, signed if there is a key; may they go out? is asked of `refuse`.

    more: files that rest on more than the tables.
    """
    known = oracle.known
    files = {
        "policy.json": canonical_json(known.policy).encode(),
        "calendar.csv": safe_csv(known.calendar).encode(),
        "calendar.parquet": _parquet(known.calendar),
        "servers.csv": safe_csv(_with_cohorts_told(known.servers)).encode(),
        "builds.csv": safe_csv(known.builds).encode(),
    }
    files |= {**postfix_files(known), **exim_files(known), **rego_files(known), **more}
    files["vectors.jsonl"] = vectors_jsonl(oracle)
    if known.identities:
        identities = pl.DataFrame(sorted(known.identities.items()), schema=["identity", "server"], orient="row")
        files["identities.csv"] = safe_csv(identities).encode()
    named = manifest(files, origin)
    sealed = {} if key is None else {ENVELOPE_NAME: envelope(named, key)}
    return files | {MANIFEST_NAME: named} | sealed


def _with_cohorts_told(servers: pl.DataFrame) -> pl.DataFrame:
    told = pl.col("cohorts").list.eval(
        pl.format("{}={}", pl.element().struct["product"], pl.element().struct["cohort"])
    )
    return servers.with_columns(cohorts=told.list.join("; "))


def refuse(result: Replay, origin: Origin) -> None:
    """Raise ExportError when the policy must not go out: pauses not granted, or guardrails that do not hold."""
    ungranted = result.course.granted.ungranted
    if ungranted.height:
        tenant, start, days = ungranted.row(0)
        raise RefusedError(
            f"not exported: {ungranted['days'].sum()} pause days asked for are beyond the policy's quota, the first "
            f"{days} of {tenant} from {start} (raise pause.days_per_year, or correct the ledger)"
        )
    broken = result.guardrails.filter(pl.col("state") != State.PASS)
    if origin.override is not None and not origin.override.strip():
        raise ExportError("an override without a reason (expected why the guardrails may be broken)")
    if broken.height and not origin.override:
        named = "; ".join(f"{row['measure']} per {row['per']}: {row['state']}" for row in broken.iter_rows(named=True))
        raise RefusedError(
            f'not exported: guardrails do not hold: {named} (change the policy, or give --override "reason")'
        )


def write_export(files: Mapping[str, bytes], out: Path) -> None:
    """Write all files of an export or none; an earlier export in the folder is replaced, anything else is not."""
    out = out.resolve()  # a link keeps pointing where it points
    if out.exists() and not _is_export(out):
        raise ExportError(f"{out} is there and is not an export alone (expected a new folder, or an earlier export)")
    write_folder(files, out)


def _is_export(folder: Path) -> bool:
    """Whether a folder is empty, or holds an earlier export's files and nothing else, so that it may be replaced."""
    if not folder.is_dir():
        return False
    found = files_of(folder)
    try:
        listed = set(json.loads((folder / MANIFEST_NAME).read_bytes())["files"]) if found else set()
    except (OSError, ValueError, LookupError, TypeError):
        return False
    return found <= {*listed, MANIFEST_NAME, ENVELOPE_NAME}


def _parquet(table: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.write_parquet(buffer)
    return buffer.getvalue()
