"""Where a policy being designed is kept: read from a file, written back whole, never over what others have written."""

import hashlib
import os
import shutil
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from enforcement import shipped
from enforcement.designer import Draft
from enforcement.designer_text import text_of
from enforcement.names import shown
from enforcement.policy_text import parse_policy

PROJECT: Final = shipped.DATA.parent
OWN: Final = PROJECT / "policies"  # where policies go that somebody has begun from a shipped one
_LARGEST: Final = 1_000_000  # bytes; nobody writes more by hand


class ChangedError(ValueError):
    """A file is not as it was when it was read; `sha256` is of what is there now, empty when nothing is."""

    def __init__(self, told: str, sha256: str) -> None:
        super().__init__(told)
        self.sha256 = sha256


def find(name: str) -> Path:
    """Find a policy to load: a shipped name, or a path, which is taken as that of a file to save to is."""
    own = _from_project(name)
    with suppress(OSError):  # no name that the system takes: told as one that is not found
        if name not in shipped.shipped_policies() and own.exists():
            return shipped.policy_file(str(own))
    return shipped.policy_file(name)


def _from_project(name: str) -> Path:
    """Take a path from the project's folder, not from the one that a notebook runs in, unless it begins with / or ~."""
    try:
        return PROJECT / Path(name.strip()).expanduser()
    except RuntimeError:
        raise ValueError(f"{shown(name[:80])}: nobody here has that name (expected a path)") from None


def read(path: Path) -> tuple[str, str]:
    """Read a policy's text as it stands in its file, line ends too, and its hash."""
    if path.stat().st_size > _LARGEST:
        raise ValueError(f"{path.name}: larger than {_LARGEST:,} bytes (expected a file that people write)")
    content = path.read_bytes()
    try:
        return content.decode(), hashlib.sha256(content).hexdigest()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path.name}: not UTF-8 text: {error.reason} at byte {error.start:,} (save it as UTF-8)"
        ) from None


def place(name: str) -> Path:
    """Find where a policy is to be saved: a path, taken from the project's folder unless it begins with / or ~."""
    if not name.strip() or "\0" in name:
        raise ValueError("no path to save to (expected e.g. policies/mine.toml)")
    path = _from_project(name)
    if path.suffix != ".toml":
        raise ValueError(f"{shown(path.name)}: expected a name that ends in .toml")
    path = path.resolve()  # what a link points to is written, the link stays
    if path.parent == (shipped.DATA / "policies").resolve():
        raise ValueError(f"{shown(path.name)} is a shipped policy (give a path of your own, e.g. policies/mine.toml)")
    if path.is_dir() or not (path.parent.is_dir() or path.parent == OWN):
        raise ValueError(f"no folder {path.parent} to write {shown(path.name)} into (make it, or give another path)")
    return path


def suggested(path: Path, name: object) -> str:
    """Suggest where to save a policy that was read from a file: there, unless it is shipped."""
    if path.parent == shipped.DATA / "policies":
        slug = "".join(c for c in str(name) if c.isalnum() or c in "._-") or "mine"
        return str((OWN / f"{slug}.toml").relative_to(PROJECT))
    with suppress(ValueError):
        return str(path.resolve().relative_to(PROJECT))
    return str(path.resolve())


def write(draft: Draft, path: Path, *, known: str | None, over: str | None = None) -> str:
    """Write a draft, which must be valid, to its file and give the file's hash.

    `known`: the hash of the file as it was last read or written, None: it was not there; `over`: that of another
    content that may be written over, empty: a file that is gone may be made anew. All else is a ChangedError.
    """
    if draft.problems:
        raise ValueError(f"not saved: {draft.problems[0].line}")
    text = text_of(draft)
    if parse_policy(text, source=path.name) != draft.policy:
        raise ValueError(f"a fault of this program: {shown(path.name)} would say something else (nothing was written)")
    if path.exists():
        _, there = read(path)
        if there not in (known, over):
            raise ChangedError(_changed(path, was_known=known is not None), there)
    elif known is not None and over is None:
        raise ChangedError(f"{path} is gone: it was deleted or moved after it was read here (nothing was written)", "")
    path.parent.mkdir(exist_ok=True)
    content = text.encode()
    descriptor, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem[:40]}-", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _like_others(Path(unfinished), path)
        Path(unfinished).replace(path)
    finally:
        Path(unfinished).unlink(missing_ok=True)
    return hashlib.sha256(content).hexdigest()


def _like_others(unfinished: Path, path: Path) -> None:
    """Give a new file the rights of the one it replaces, or those that other new files get."""
    if path.exists():
        shutil.copymode(path, unfinished)
        return
    mask = os.umask(0)
    os.umask(mask)
    unfinished.chmod(0o666 & ~mask)


def _changed(path: Path, *, was_known: bool) -> str:
    when = datetime.fromtimestamp(path.stat().st_mtime, tz=UTC)
    happened = "was changed on disk after it was read here" if was_known else "is there already"
    return f"{path} {happened} (it is of {when:%Y-%m-%d %H:%M} UTC): nothing was written"
