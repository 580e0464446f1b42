"""Whether an export is whole, in force, and vouched for: every reason why it is not, in a line."""

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final, NamedTuple

from enforcement.export.manifest import MANIFEST_NAME, canonical
from enforcement.export.signing import (
    ENVELOPE_NAME,
    PublicKey,
    is_signed_by,
    open_envelope,
    signer_of,
    strict_json,
)
from enforcement.names import printable

OWN_NAMES: Final = frozenset({MANIFEST_NAME, ENVELOPE_NAME})
NOBODY_VOUCHES: Final = "no key was given: the files were held to the manifest, but nothing vouches for the manifest"
_FORMAT: Final = 1
_LARGEST_MANIFEST: Final = 64_000_000  # bytes: some 300,000 files
_LARGEST_FILE: Final = 4_000_000_000
_MOST_REASONS: Final = 20
_CHUNK: Final = 1 << 20
_DEEPEST: Final = 20
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
# A part of a relative path: no control characters, no separators of any system, neither `.` nor `..`.
_PART = re.compile(r"(?!\.{1,2}\Z)[^/\\\x00-\x1f\x7f]{1,200}")


class Listed(NamedTuple):
    """What a manifest says of a file."""

    sha256: str
    n_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a manifest says: which export it is, when it holds, and what belongs to it."""

    policy: str
    serial: int
    valid_from: date
    not_after: date
    files: Mapping[str, Listed]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """An export looked at: whether it may be used, and why not; `signed_by` is the key that vouches for it."""

    ok: bool
    reasons: tuple[str, ...]  # why it must not be used
    notes: tuple[str, ...]  # what an `ok` does not say
    manifest: Manifest | None = None
    content: bytes = b""  # of the manifest
    signature: bytes | None = None  # the envelope
    signed_by: str | None = None


class Holding(NamedTuple):
    """The export that is installed: its serial, and its manifest as far as it can be read."""

    serial: int
    content: bytes | None


class UnfitError(ValueError):
    """What is wrong with a file of an export."""


def verify(folder: Path, *, today: date, key: PublicKey | None = None, holding: Holding | None = None) -> Checked:
    """Check an export on a day: its manifest, its signature if a key is given, its dates, and every file.

    Nothing in it is believed before the signature is right, no link is followed, and nothing is read that the manifest
    does not list. Without a key, `ok` says of the files only that they are those that the manifest lists.
    """
    notes: tuple[str, ...] = () if key else (NOBODY_VOUCHES,)
    try:
        content = _read(folder / MANIFEST_NAME, MANIFEST_NAME)
        sealed = _read(folder / ENVELOPE_NAME, ENVELOPE_NAME) if os.path.lexists(folder / ENVELOPE_NAME) else None
        signed_by = _vouched(content, sealed, key)
        manifest = read_manifest(content)
    except UnfitError as problem:
        return Checked(ok=False, reasons=(str(problem),), notes=notes)
    found = [
        *_on_its_day(manifest, content, today, holding),
        *_files(folder, manifest, has_envelope=sealed is not None),
    ]
    if today < manifest.valid_from:
        notes = (*notes, f"it decides nothing before {manifest.valid_from}: until then all mail is accepted")
    reasons = found[:_MOST_REASONS]
    if len(found) > _MOST_REASONS:
        reasons.append(f"shown {_MOST_REASONS} of {len(found):,} reasons")
    return Checked(
        ok=not found,
        reasons=tuple(reasons),
        notes=notes,
        manifest=manifest,
        content=content,
        signature=sealed,
        signed_by=signed_by if key else None,
    )


def _vouched(content: bytes, sealed: bytes | None, key: PublicKey | None) -> str | None:
    """Hold the manifest to its envelope; gives the key that the envelope names."""
    if sealed is None:
        if key is not None:
            raise UnfitError(f"{ENVELOPE_NAME}: missing; the export is not signed (expected one signed with this key)")
        return None
    try:
        found = open_envelope(sealed)
    except ValueError as problem:
        raise UnfitError(f"{ENVELOPE_NAME}: {printable(str(problem))}") from None
    if key is not None and not is_signed_by(found, key):
        raise UnfitError(f"{ENVELOPE_NAME}: not signed with this key, or changed (expected key {key.keyid[:16]})")
    if found.payload != content:
        raise UnfitError(f"{ENVELOPE_NAME}: signs another manifest than {MANIFEST_NAME}")
    return signer_of(found)


def read_manifest(content: bytes) -> Manifest:
    r"""Read a manifest in its one form, or say in a ValueError what is wrong with it.

    >>> read_manifest(b'{"format": 1}\n')
    Traceback (most recent call last):
    enforcement.export.verify.UnfitError: manifest.json: not in its canonical form (expected it as `export` wrote it)
    >>> read_manifest(b'{\n  "format": 2\n}\n')
    Traceback (most recent call last):
    enforcement.export.verify.UnfitError: manifest.json: format 2 (expected 1)
    """
    try:
        return _manifest(content)
    except (ValueError, LookupError, TypeError, RecursionError) as problem:
        raise UnfitError(f"{MANIFEST_NAME}: {printable(str(problem))[:300]}") from None


def _manifest(content: bytes) -> Manifest:
    read = strict_json(content)
    if canonical(read) != content:
        raise ValueError("not in its canonical form (expected it as `export` wrote it)")
    if not isinstance(read, dict):
        raise ValueError("expected an object")
    if type(read.get("format")) is not int or read["format"] != _FORMAT:
        raise ValueError(f"format {read.get('format')!r:.40} (expected {_FORMAT})")
    policy, number, files = read.get("policy"), read.get("serial"), read.get("files")
    if not isinstance(policy, str) or type(number) is not int or not 0 <= number < 10**12:
        raise ValueError("expected the name of a policy and a serial")
    if not isinstance(files, dict):
        raise ValueError("expected the list of the files")
    manifest = Manifest(
        policy=policy,
        serial=number,
        valid_from=_day(read, "valid_from"),
        not_after=_day(read, "not_after"),
        files={name: _listed(name, entry) for name, entry in files.items()},
    )
    if manifest.valid_from > manifest.not_after:
        raise ValueError(f"valid from {manifest.valid_from} to {manifest.not_after}: no day")
    return manifest


def _day(read: Mapping[str, object], key: str) -> date:
    try:
        found = date.fromisoformat(str(read.get(key)))
    except ValueError:
        raise ValueError(f"{key}: expected a date") from None
    if str(found) != read.get(key):
        raise ValueError(f"{key}: expected a date like 2026-10-31")
    return found


def _listed(name: str, entry: object) -> Listed:
    parts = name.split("/")
    if name in OWN_NAMES or len(parts) > _DEEPEST or not all(_PART.fullmatch(part) for part in parts):
        raise ValueError(f"a file of the name {name[:80]!r} (expected a relative path inside the export)")
    if isinstance(entry, dict) and set(entry) == {"sha256", "bytes"}:
        digest, n_bytes = entry["sha256"], entry["bytes"]
        if isinstance(digest, str) and _DIGEST.fullmatch(digest) and type(n_bytes) is int and n_bytes >= 0:
            if n_bytes > _LARGEST_FILE:
                raise ValueError(f"{name[:80]!r} has {n_bytes:,} bytes (expected at most {_LARGEST_FILE:,})")
            return Listed(digest, n_bytes)
    raise ValueError(f"{name[:80]!r}: expected its sha256 and bytes")


def _on_its_day(manifest: Manifest, content: bytes, today: date, holding: Holding | None) -> Iterator[str]:
    if today > manifest.not_after:
        yield f"expired: its last day was {manifest.not_after}, today is {today} (expected a fresh export)"
    if holding is None:
        return
    if manifest.serial < holding.serial:
        yield (
            f"older than what is installed: serial {manifest.serial}, installed {holding.serial} (`rollback` goes back)"
        )
    elif manifest.serial == holding.serial and content != holding.content:
        yield f"serial {manifest.serial} is installed with other content (expected an export with a greater --revision)"


def _files(folder: Path, manifest: Manifest, *, has_envelope: bool) -> Iterator[str]:
    """Say of each file that is not as the manifest lists it what is wrong, and name what it does not list."""
    listed = manifest.files
    folders = {"/".join(name.split("/")[:n]) for name in listed for n in range(1, name.count("/") + 1)}
    own = {MANIFEST_NAME, *([ENVELOPE_NAME] if has_envelope else [])}
    found: set[str] = set()
    for name, is_folder in _walk(folder, folders, most=len(listed) + len(folders) + 1_000):
        if is_folder and name in folders:
            continue
        if name in listed and not is_folder:
            found.add(name)
        elif name not in own:
            yield f"{printable(name)}: not in the manifest"
    for name, entry in sorted(listed.items()):
        if name not in found:
            yield f"{printable(name)}: missing"
            continue
        try:
            _hold_to(folder / name, name, entry)
        except UnfitError as problem:
            yield str(problem)


def _walk(folder: Path, enter: set[str], *, most: int) -> Iterator[tuple[str, bool]]:
    """Name what lies in a folder, and whether it is a folder; goes into those expected, and follows no link."""
    left, inside = most, [""]
    while inside:
        prefix = inside.pop()
        with os.scandir(folder / prefix) as entries:
            for entry in sorted(entries, key=lambda each: each.name):
                if (left := left - 1) < 0:
                    yield "(and more)", False
                    return
                name, is_folder = f"{prefix}{entry.name}", entry.is_dir(follow_symlinks=False)
                yield name, is_folder
                if is_folder and name in enter:
                    inside.append(f"{name}/")


def _hold_to(path: Path, name: str, entry: Listed) -> None:
    digest = hashlib.sha256()
    for chunk in _chunks(path, name, exactly=entry.n_bytes):
        digest.update(chunk)
    if digest.hexdigest() != entry.sha256:
        raise UnfitError(f"{printable(name)}: changed")


def _read(path: Path, name: str) -> bytes:
    return b"".join(_chunks(path, name, at_most=_LARGEST_MANIFEST))


def _chunks(path: Path, name: str, *, exactly: int | None = None, at_most: int = _LARGEST_FILE) -> Iterator[bytes]:
    """Read a plain file of a size; a link, a pipe, a device is refused before anything is read of it."""
    shown = printable(name)
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as problem:
        if path.is_symlink():
            raise UnfitError(f"{shown}: a link (expected a file; links are not followed)") from None
        told = "missing" if isinstance(problem, FileNotFoundError) else f"cannot be read: {problem.strerror}"
        raise UnfitError(f"{shown}: {told}") from None
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise UnfitError(f"{shown}: not a plain file")
    with os.fdopen(opened, "rb", buffering=0) as file:
        state = os.fstat(file.fileno())
        if exactly is not None and state.st_size != exactly:
            raise UnfitError(f"{shown}: changed ({state.st_size:,} bytes, expected {exactly:,})")
        if state.st_size > at_most:
            raise UnfitError(f"{shown}: {state.st_size:,} bytes (expected at most {at_most:,})")
        n_read = 0
        try:
            while chunk := file.read(_CHUNK):
                if (n_read := n_read + len(chunk)) > state.st_size:
                    raise UnfitError(f"{shown}: grows while it is read")
                yield chunk
        except OSError as problem:
            raise UnfitError(f"{shown}: cannot be read: {problem.strerror}") from None
