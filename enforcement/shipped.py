"""What the project ships in data/: the catalogue, the policies, the assumptions; and files like them of one's own."""

import hashlib
import json
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

from enforcement.assumptions import Assumptions, parse_assumptions
from enforcement.catalogue import Catalogue, read_catalogue
from enforcement.policy import Policy
from enforcement.policy_text import parse_policy
from enforcement.sample_shape import Shape, parse_shape

DATA: Final = Path(__file__).resolve().parent.parent / "data"
_LARGEST_FILE: Final = 1_000_000  # bytes; nobody writes more by hand


@cache
def program_hash() -> str:
    """Hash the program itself: what it worked out may be kept only as long as it is the same."""
    code = Path(__file__).parent
    files = sorted(path for path in code.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    told = [(str(path.relative_to(code)), hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


@cache
def load_catalogue() -> Catalogue:
    """Load the shipped catalogue of Exchange builds."""
    builds, lifecycle, exploits = map(read_text, catalogue_files())
    return read_catalogue(builds=builds, lifecycle=lifecycle, exploits=exploits)


def catalogue_files() -> tuple[Path, Path, Path]:
    """Name the files of the catalogue: builds, lifecycle, exploited vulnerabilities."""
    folder = DATA / "catalogue"
    return (
        folder / "exchange_builds.csv",
        folder / "exchange_lifecycle.csv",
        folder / "exchange_exploited_cves.csv",
    )


def shipped_policies() -> list[str]:
    """Name the shipped policies."""
    return _names("policies")


def policy_file(name_or_path: str) -> Path:
    """Find a policy's file: a shipped name, or a path."""
    return _file(name_or_path, "policies", "policy")


def load_policy(name_or_path: str) -> Policy:
    """Load a policy by its shipped name or its path."""
    path = policy_file(name_or_path)
    return parse_policy(read_text(path), source=path.name)


def assumptions_file(name_or_path: str) -> Path:
    """Find an assumptions file: a shipped name, or a path."""
    return _file(name_or_path, "assumptions", "assumptions")


def load_assumptions(name_or_path: str = "default") -> Assumptions:
    """Load assumptions by their shipped name or their path."""
    path = assumptions_file(name_or_path)
    return parse_assumptions(read_text(path), source=path.name)


@cache
def load_sample_shape() -> Shape:
    """Load the figures that a made-up fleet is drawn from."""
    path = DATA / "sample.toml"
    return parse_shape(read_text(path), source=path.name)


def _file(name_or_path: str, folder: str, what: str) -> Path:
    """Find a file by its shipped name or its path, from here or from the project's folder, where notebooks are not."""
    if name_or_path in _names(folder):
        return DATA / folder / f"{name_or_path}.toml"
    for path in (Path(name_or_path), DATA.parent / name_or_path):
        with suppress(OSError):  # no name that the system takes, or behind a closed door: not found, as told below
            if path.is_file():
                return path
            if name_or_path and path.is_dir():
                raise LookupError(f"{name_or_path[:80]!r} is a folder (expected the path of a TOML file in it)")
    names = ", ".join(_names(folder))
    raise LookupError(f"no {what} {name_or_path[:80]!r} (expected the path of a file, or one of {names})")


def _names(folder: str) -> list[str]:
    return sorted(path.stem for path in (DATA / folder).glob("*.toml"))


def read_text(path: Path) -> str:
    """Read a file that people write; one that is too large or not UTF-8 is a ValueError that names it."""
    if path.stat().st_size > _LARGEST_FILE:
        raise ValueError(f"{path.name}: larger than {_LARGEST_FILE:,} bytes (expected a file that people write)")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path.name}: not UTF-8 text: {error.reason} at byte {error.start:,} (save it as UTF-8)"
        ) from None
