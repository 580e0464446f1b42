"""The cookbook: every command of each recipe runs as it stands, and says what the recipe shows."""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from test_readme import ROOT, _run
from worlds import run

COOKBOOK = ROOT / "cookbook"
RECIPES = sorted(path.name for path in COOKBOOK.glob("[0-9]*.md"))


def _blocks(text: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store that the cookbook begins with."""
    (command,) = _blocks((COOKBOOK / "README.md").read_text(encoding="utf-8"), "sh")
    words = command.split()
    assert words[:2] == ["enforcement", "sample"]
    folder = tmp_path_factory.mktemp("cookbook")
    done = run(*words[1:], cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "lab.duckdb"


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_runs(recipe: str, lab: Path, tmp_path: Path) -> None:
    """Its blocks one after the other, in a folder with the project's data and the lab's store."""
    text = (COOKBOOK / recipe).read_text(encoding="utf-8")
    (tmp_path / "data").symlink_to(ROOT / "data")
    shutil.copy(lab, tmp_path / "lab.duckdb")
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    said = _run("\n".join(_blocks(text, "sh")), tmp_path, PATH=programs, NO_COLOR="1")
    told = " ".join(said.split())
    for line in "".join(_blocks(text, "text")).splitlines():
        assert " ".join(line.split()) in told, said[-3000:]


def test_the_cookbook_lists_its_recipes() -> None:
    """Each is in the list under its title and its number, and each has something to run."""
    listed = re.findall(
        r"^(\d+)\. \[([^]]+)\]\(([^)]+)\)$", (COOKBOOK / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert [name for _, _, name in listed] == RECIPES
    for number, title, name in listed:
        text = (COOKBOOK / name).read_text(encoding="utf-8")
        assert text.startswith(f"# {title}\n")
        assert name.startswith(f"{int(number):02}-")
        assert _blocks(text, "sh")
