"""A folder written whole or not at all."""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path


def write_folder(files: Mapping[str, bytes], out: Path) -> None:
    """Write files, relative path → content, into a new folder and put it in place of the one that is there."""
    out.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    old = made.with_name(made.name + ".old")
    try:
        for name, content in files.items():
            path = made / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        made.chmod(0o755)
        if out.exists():
            out.rename(old)
        try:
            made.rename(out)
        except OSError:
            if old.exists():
                old.rename(out)
            raise
    except OSError as problem:
        raise OSError(problem.errno, f"not written: {problem.strerror}", str(out)) from None
    finally:
        shutil.rmtree(made, ignore_errors=True)
    if old.exists():
        shutil.rmtree(old)


def files_of(folder: Path) -> set[str]:
    """List what is in a folder and below by relative paths, links as files, folders left out."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()}
