"""Notebooks: plain papermill runs them from a clone, and their first cell refuses what they cannot run with."""

import ast
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pages import PYTHON, small_store

from enforcement.charts_theme import MIME
from enforcement.report_page import answer_line, told_by
from enforcement.report_parameters import MODELS, NOTEBOOKS

ROOT = NOTEBOOKS.parent


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_store(tmp_path_factory.mktemp("notebooks") / "traffic.duckdb")


def _papermill(name: str, out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a notebook as its users do who know papermill and nothing of reports."""
    command = [PYTHON, "-m", "papermill", f"notebooks/{name}.ipynb", str(out), "--no-progress-bar", *arguments]
    quiet = os.environ | {"PYTHONWARNINGS": "ignore"}
    return subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, check=False, timeout=300)


def _cells(path: Path) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return cells


@pytest.mark.parametrize("name", MODELS)
def test_plain_papermill_runs_it(name: str, store: Path, tmp_path: Path) -> None:
    """Every code cell after the set-up shows something, charts among it; and it says what an index lists."""
    extra = ("-p", "out", str(tmp_path / "export")) if name == "06_export" else ()
    done = _papermill(name, tmp_path / "out.ipynb", "-p", "store", str(store), *extra)
    assert done.returncode == 0, done.stderr
    shown = [output for cell in _cells(tmp_path / "out.ipynb") for output in cell.get("outputs", ())]
    assert not [output for output in shown if output["output_type"] in ("error", "stream")]
    assert sum(MIME in output["data"] for output in shown) >= 2
    assert all("text/plain" in output["data"] for output in shown)
    said = answer_line(told_by({"cells": _cells(tmp_path / "out.ipynb")})[0])
    if name != "00_explore":  # questions to begin with, each with its own answer
        assert said is not None
        assert re.search(r"\d.*[.)]$", said), said  # whole: not cut, and not the first of several sentences alone


def test_parameters_of_papermill_count(store: Path, tmp_path: Path) -> None:
    """A list of policies in YAML is what is replayed."""
    done = _papermill(
        "03_replay", tmp_path / "out.ipynb", "-y", f"policies: [stricter]\nbaseline: none\nstore: {store}"
    )
    assert done.returncode == 0, done.stderr
    (answer,) = (cell for cell in _cells(tmp_path / "out.ipynb") if cell["id"] == "answer")
    text = "".join(answer["outputs"][0]["data"]["text/plain"])
    assert "stricter would have delayed" in text
    assert "ninety-days" not in text


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("policies: ninety-days", "03_replay: policies = 'ninety-days' (expected a list of 1 to 12 policies"),
        (
            "policies: [no-such]",
            "03_replay: policies = ['no-such']: no policy 'no-such' (expected the path of a file, or",
        ),
        ("polices: [gentler]", "03_replay: no parameter 'polices' (did you mean policies?)"),
    ],
)
def test_bad_parameters_stop_it_in_the_cell_after_them(
    parameters: str, message: str, store: Path, tmp_path: Path
) -> None:
    """Plain papermill fails with one line that says what is wrong, before anything is computed."""
    done = _papermill("03_replay", tmp_path / "out.ipynb", "-p", "store", str(store), "-y", parameters)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert re.sub(r"^ParameterError: ", "", last).startswith(message)
    ran = [cell for cell in _cells(tmp_path / "out.ipynb") if cell.get("execution_count")]
    assert [cell["id"] for cell in ran][-1] == "setup"
    errors = [output for cell in ran for output in cell["outputs"] if output["output_type"] == "error"]
    assert [len(error["traceback"]) for error in errors] == [1]


@pytest.mark.parametrize("name", MODELS)
def test_what_stands_in_the_notebook_is_what_a_report_takes(name: str) -> None:
    """Names and values of the parameters cell are those of the model, so that both ways give the same page."""
    (cell,) = (cell for cell in _cells(NOTEBOOKS / f"{name}.ipynb") if "parameters" in cell["metadata"].get("tags", ()))
    written = {
        statement.targets[0].id: ast.literal_eval(statement.value)
        for statement in ast.parse("".join(cell["source"])).body
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
    }
    assert written == MODELS[name]().model_dump()


def test_every_notebook_has_its_parameters() -> None:
    """No notebook without a model, no model without a notebook, and each checks by its own name."""
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == set(MODELS)
    for name in MODELS:
        code = ["".join(cell["source"]) for cell in _cells(NOTEBOOKS / f"{name}.ipynb") if cell["cell_type"] == "code"]
        assert f'check_parameters("{name}", globals())' in code[1]


@pytest.mark.parametrize("name", MODELS)
def test_its_text_is_in_its_normal_form(name: str) -> None:
    """Stored as a tool would store it: keys in order, names for cells that say what they are, code formatted."""
    path = NOTEBOOKS / f"{name}.ipynb"
    text = path.read_text(encoding="utf-8")
    notebook = json.loads(text)
    assert text == json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", cell["id"]) for cell in notebook["cells"])
    done = subprocess.run(
        [PYTHON, "-m", "ruff", "format", "--check", "--config", "extend-exclude = []", str(path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
