"""An export on a mail server: put there whole, switched to in one step, and back."""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from enforcement.export.manifest import MANIFEST_NAME, canonical
from enforcement.export.signing import ENVELOPE_NAME, PublicKey, strict_json
from enforcement.export.verify import Checked, Holding, verify
from enforcement.names import printable

CURRENT: Final = "current"  # what mail servers read: a link to one of the versions
_VERSIONS: Final = "versions"
_WORK: Final = ".work-"  # what a killed install leaves behind; the next one clears it away
_KEPT: Final = 5  # versions to go back to, one after the other
_NAME = re.compile(r"(\d{1,12})-[0-9a-f]{16}(?:\.\d{1,4})?", re.ASCII)
_NEWEST: Final = "this is the newest one kept of those with a smaller serial"
_CONFIGURATION: Final = ("exim/enforcement.acl", "exim/enforcement.conf")  # what Exim reads only when it starts
_BY_HAND: Final = ("postfix/enforcement-milter.service", "postfix/main.cf")  # what was taken over when it was set up


class InstallError(ValueError):
    """Why nothing was changed; `reasons` has a line each."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("\n".join(reasons))
        self.reasons = tuple(reasons)


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """Who does it, and when (UTC, with its zone)."""

    at: datetime
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Holds:
    """What is in force under a root: its serial and folder, the serial before, whether that is a change, what to do."""

    serial: int
    folder: Path
    before: int | None
    changed: bool
    reload: tuple[str, ...]
    notes: tuple[str, ...]


def install(folder: Path, root: Path, *, act: Act, key: PublicKey | None = None) -> Holds:
    """Check an export, copy it under a root, check the copy, and switch to it by one rename; the one before stays.

    Whenever this ends, by an error or a kill, `current` is either the old export or the new one, whole. The same
    export again changes nothing; an older one, or a damaged one, is an InstallError.
    """
    _expect(verify(folder, today=act.at.date(), key=key, holding=holding(root)))
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root):
        old = _current(root)
        found = _expect(verify(folder, today=act.at.date(), key=key, holding=holding(root)))
        if old is not None and _is_the_same(root / _VERSIONS / old, found, act, key):
            return _holds(root, old, found, changed=False, replaced=old)
        if old is not None and found.manifest is not None and act.at.date() < found.manifest.valid_from:
            begins = found.manifest.valid_from
            reason = f"it decides nothing before {begins}, until then all mail would be accepted"
            raise InstallError([f"not installed: {reason} (install it on that day; {old} stays in force)"])
        name = _placed(folder, root, found, act, key)
        # A repaired or newly signed copy goes back to where the one goes that it stands for.
        before = _before(root, old) if old is not None and _serial(old) == _serial(name) else old
        record = {
            "serial": _serial(name),
            "installed_at": f"{act.at:%Y-%m-%dT%H:%M:%SZ}",
            "installed_by": printable(act.by),
            "signed_by": found.signed_by,
            "before": before,
        }
        _write_whole(root, _record(root, name), canonical(record))
        _switch(root, name)
        _prune(root, name)
        return _holds(root, name, found, changed=True, replaced=old)


def rollback(root: Path, *, act: Act, key: PublicKey | None = None) -> Holds:
    """Switch back to the export before the one in force; an expired or damaged one is an InstallError."""
    if not root.is_dir() or (old := _current(root)) is None:
        raise InstallError([f"nothing is installed under {printable(str(root))}"])
    with _locked(root):
        old = _current(root) or old
        name, note = _to_go_back_to(root, old)
        found = verify(root / _VERSIONS / name, today=act.at.date(), key=key)
        if not found.ok:
            raise InstallError([f"not rolled back: serial {_serial(name)}: {reason}" for reason in found.reasons])
        record = _read_record(root, name)
        back = {"at": f"{act.at:%Y-%m-%dT%H:%M:%SZ}", "by": printable(act.by), "from": old}
        _write_whole(root, _record(root, name), canonical(record | {"rolled_back_to": back}))
        _switch(root, name)
        done = _holds(root, name, found, changed=True, replaced=old)
        return replace(done, notes=(*note, *done.notes))


def _to_go_back_to(root: Path, old: str) -> tuple[str, tuple[str, ...]]:
    """Give the version before the one in force, by its record; else the newest kept of those before it, and a note."""
    before = _before(root, old)
    if before is not None and (root / _VERSIONS / before).is_dir():
        return before, ()
    kept = [
        each.name
        for each in (root / _VERSIONS).iterdir()
        if _NAME.fullmatch(each.name) and each.is_dir() and _serial(each.name) < _serial(old)
    ]
    if not kept:
        raise InstallError([f"serial {_serial(old)} is the first one kept: there is none before it to go back to"])
    name = max(kept, key=_serial)
    why = "its record is missing or damaged" if before is None else f"serial {_serial(before)} is gone"
    return name, (f"what was in force before serial {_serial(old)} is not there to go back to: {why}; {_NEWEST}",)


def holding(root: Path) -> Holding | None:
    """Say what is installed under a root; None: nothing is. The serial is known even of a damaged one."""
    name = _current(root)
    if name is None:
        return None
    try:
        content = (root / _VERSIONS / name / MANIFEST_NAME).read_bytes()
    except OSError:
        content = None
    return Holding(_serial(name), content)


def _expect(found: Checked) -> Checked:
    if not found.ok:
        raise InstallError([f"not installed: {reason}" for reason in found.reasons])
    return found


def _current(root: Path) -> str | None:
    """Give the name of the version that `current` points to."""
    link = root / CURRENT
    if not os.path.lexists(link):
        return None
    target = str(link.readlink()) if link.is_symlink() else ""
    folder, _, name = target.partition("/")
    if folder != _VERSIONS or not _NAME.fullmatch(name):
        raise InstallError(
            [f"{printable(str(link))} is not what `install` makes (expected a link to a version, or none)"]
        )
    return name


def _serial(name: str) -> int:
    return int(name.partition("-")[0])


def _is_the_same(held: Path, found: Checked, act: Act, key: PublicKey | None) -> bool:
    """Tell whether an installed version is this export and still whole; a signature that it lacks is worth a change."""
    now = verify(held, today=act.at.date(), key=key)
    return now.ok and now.content == found.content and found.signature in (None, now.signature)


def _placed(folder: Path, root: Path, found: Checked, act: Act, key: PublicKey | None) -> str:
    """Bring a copy of an export among the versions, or find it there; gives its name."""
    assert found.manifest is not None
    digest = hashlib.sha256(found.content + b"\0" + (found.signature or b"")).hexdigest()
    base = f"{found.manifest.serial}-{digest[:16]}"
    versions = root / _VERSIONS
    versions.mkdir(exist_ok=True)
    for name in (base, *(f"{base}.{n}" for n in range(2, 10_000))):
        if not os.path.lexists(versions / name):
            break
        there = verify(versions / name, today=act.at.date(), key=key)
        if there.ok and (there.content, there.signature) == (found.content, found.signature):
            return name
    work = versions / f"{_WORK}{os.getpid()}"
    try:
        _copy(folder, work, found)
        _expect_copy(work, found, act, key)
    except OSError as problem:
        _remove(work)  # a full disk should not stay full
        raise OSError(problem.errno, f"not installed: {problem.strerror}", str(root)) from None
    except Exception:
        _remove(work)
        raise
    work.rename(versions / name)
    _sync(versions)
    return name


def _expect_copy(work: Path, found: Checked, act: Act, key: PublicKey | None) -> None:
    """Hold what was copied to what was checked: that alone counts, the source may have changed since."""
    copied = _expect(verify(work, today=act.at.date(), key=key))
    if (copied.content, copied.signature) != (found.content, found.signature):
        raise InstallError(["not installed: the export changed while it was copied (try again)"])


def _copy(folder: Path, work: Path, found: Checked) -> None:
    """Copy the files of an export, readable to mail servers, and see them to the disk."""
    assert found.manifest is not None
    work.mkdir(mode=0o755)
    names = [*found.manifest.files, MANIFEST_NAME, *([ENVELOPE_NAME] if found.signature is not None else [])]
    for name in names:
        target = work / name
        target.parent.mkdir(parents=True, exist_ok=True)
        source = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(source, "rb") as read, target.open("xb") as written:
            shutil.copyfileobj(read, written)
            os.fchmod(written.fileno(), 0o644)
    # All at once is many times as fast as one by one; the files are asked then whether that went well.
    os.sync()
    for each in sorted((work, *work.rglob("*"))):
        if each.is_dir():
            each.chmod(0o755)
        _sync(each)


def _switch(root: Path, name: str) -> None:
    """Let `current` point to a version: one rename, which happens or does not."""
    link = root / f"{_WORK}{os.getpid()}"
    link.symlink_to(f"{_VERSIONS}/{name}")
    link.replace(root / CURRENT)
    _sync(root)


def _record(root: Path, name: str) -> Path:
    return root / _VERSIONS / f"{name}.json"


def _read_record(root: Path, name: str) -> dict[str, Any]:
    try:
        read = strict_json(_record(root, name).read_bytes())
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}


def _before(root: Path, name: str) -> str | None:
    before = _read_record(root, name).get("before")
    return before if isinstance(before, str) and _NAME.fullmatch(before) and before != name else None


def _holds(root: Path, name: str, found: Checked, *, changed: bool, replaced: str | None) -> Holds:
    before = _before(root, name)
    return Holds(
        serial=_serial(name),
        folder=root / _VERSIONS / name,
        before=None if before is None else _serial(before),
        changed=changed,
        reload=_what_to_reload(root, name, replaced) if changed else (),
        notes=found.notes,
    )


def _what_to_reload(root: Path, name: str, replaced: str | None) -> tuple[str, ...]:
    """Say what mail servers do not see by themselves."""
    now, was = _hashes(root, name), _hashes(root, replaced) if replaced else {}
    changed = {each for each in now.keys() | was.keys() if now.get(each) != was.get(each)}
    said = []
    exim = sorted(each for each in changed if each.startswith("exim/"))
    if by_hand := [each for each in exim if each in _CONFIGURATION]:
        said.append(f"reload Exim: it reads {by_hand[0]}{' and others' if by_hand[1:] else ''} only when it starts")
    elif exim:
        said.append("Exim needs nothing: it reads its tables anew for each message")
    if by_hand := [each for each in _BY_HAND if each in changed]:
        said.append(
            f"Postfix and its milter go on as they were set up: take over {' and '.join(by_hand)}, restart both"
        )
    elif any(each.startswith("postfix/") for each in changed):
        said.append("Postfix needs nothing: the milter sees the change by itself")
    if any(each.startswith("rego/") for each in changed):
        said.append("a policy engine that does not watch rego/ has to load it anew")
    return tuple(said)


def _hashes(root: Path, name: str) -> dict[str, object]:
    try:
        return dict(json.loads((root / _VERSIONS / name / MANIFEST_NAME).read_bytes())["files"])
    except (OSError, ValueError, LookupError, TypeError):
        return {}


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Keep others from installing meanwhile, and clear away what a killed one left."""
    with (root / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in (*root.glob(f"{_WORK}*"), *(root / _VERSIONS).glob(f"{_WORK}*")):
            _remove(left)
        yield


def _prune(root: Path, name: str) -> None:
    """Remove versions that no rollback would reach any more."""
    keep: list[str] = []
    at: str | None = name
    while at is not None and at not in keep and len(keep) <= _KEPT:
        keep.append(at)
        at = _before(root, at)
    for each in sorted((root / _VERSIONS).iterdir()):
        if each.name.removesuffix(".json") in keep or not _NAME.fullmatch(each.name.removesuffix(".json")):
            continue
        # First out of sight, so that no half of it is ever found again.
        away = each.with_name(f"{_WORK}{each.name}")
        with contextlib.suppress(OSError):  # what cannot be removed today is removed another day
            each.rename(away)
            _remove(away)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _write_whole(root: Path, path: Path, content: bytes) -> None:
    work = root / f"{_WORK}{os.getpid()}"
    with work.open("xb") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    work.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    """See a file, or the names in a folder, to the disk."""
    opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
