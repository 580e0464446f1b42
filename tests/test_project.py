"""The project as a whole: what it installs, what it may not contain, and the habits that its files keep."""

import ast
import json
import re
import shutil
import subprocess
import tokenize
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from itertools import chain
from pathlib import Path

import pytest
import yaml
from conftest import absent
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from test_layers import CORE, PACKAGE

ROOT = PACKAGE.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ASKED = [Requirement(line) for line in PYPROJECT["project"]["dependencies"] + PYPROJECT["dependency-groups"]["dev"]]

# Hosts of package registries and mirrors; an address of a package is the installer's business, not ours.
REGISTRIES = re.compile(
    r"pypi\.org|pythonhosted\.org|anaconda\.org|conda\.io|npmjs\.(org|com)|deb\.debian\.org|index-url[= ]http"
)
# Places on somebody's machine.
MACHINES = re.compile(r"(?<![\w.])/(root|work|home/\w+|Users/\w+|tmp/\w+)/")


@cache
def _lock() -> dict[Requirement, list[str]]:
    """Return the pinned requirements with their hashes."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return {Requirement(line.partition(" --hash=")[0]): re.findall(r"--hash=(\S+)", line) for line in lines}


@cache
def _locked_here() -> dict[str, str]:
    """Return the version pinned for this Python and system, by package."""
    here = (pin for pin in _lock() if pin.marker is None or pin.marker.evaluate())
    return {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in here}


@cache
def _tracked() -> tuple[Path, ...]:
    """Return the files that git knows."""
    if not shutil.which("git") or not (ROOT / ".git").exists():
        absent("not a git checkout, so which files belong to the project is not known")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    return tuple(path for name in listed.split("\0") if name and (path := ROOT / name).is_file())


def test_the_lock_pins_and_hashes_everything() -> None:
    """Each requirement of the lock has one exact version and a SHA-256, and none names an address."""
    assert len(_lock()) > 100
    for pin, hashes in _lock().items():
        assert [specifier.operator for specifier in pin.specifier] == ["=="], pin
        assert hashes, pin
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", value) for value in hashes), pin
        assert pin.url is None, pin
    assert "://" not in (ROOT / "requirements.lock").read_text(encoding="utf-8")


@pytest.mark.parametrize("asked", ASKED, ids=str)
def test_the_lock_holds_what_pyproject_asks(asked: Requirement) -> None:
    """Each version pinned for a dependency, whatever Python or system, is one that pyproject.toml allows."""
    pins = [pin for pin in _lock() if canonicalize_name(pin.name) == canonicalize_name(asked.name)]
    assert pins
    for pin in pins:
        assert asked.specifier.contains(next(iter(pin.specifier)).version), pin


def test_the_lock_holds_nothing_else() -> None:
    """What pyproject.toml asks for, and what that requires in turn, is the lock: no more, no less, same versions."""
    reached: dict[str, str] = {}
    done: set[tuple[str, str]] = set()
    ahead = [(canonicalize_name(asked.name), extra) for asked in ASKED for extra in ("", *asked.extras)]
    while ahead:
        name, extra = ahead.pop()
        if (name, extra) in done:
            continue
        done.add((name, extra))
        reached[name] = metadata.version(name)
        for requirement in map(Requirement, metadata.requires(name) or ()):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                ahead.extend((canonicalize_name(requirement.name), more) for more in ("", *requirement.extras))
    assert reached == _locked_here()


def test_spark_is_an_extra_with_a_lock_of_its_own() -> None:
    """A default installation has no PySpark (500 MB); its own lock pins and hashes it, and what builds it."""
    spark = [Requirement(line) for line in PYPROJECT["project"]["optional-dependencies"]["spark"]]
    group = [Requirement(line) for line in PYPROJECT["dependency-groups"]["spark"]]
    assert {str(asked) for asked in spark} < {str(asked) for asked in group}
    text = (ROOT / "requirements-spark.lock").read_text(encoding="utf-8")
    pins = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, flags=re.MULTILINE))
    assert set(pins) == {"pyspark", "py4j", "setuptools"}
    assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", text)) >= len(pins)
    assert "://" not in text
    for asked in group:
        assert asked.specifier.contains(pins[asked.name]), asked
    assert not {"pyspark", "py4j"} & set(_locked_here())


def test_conda_takes_the_same_python_and_the_same_lock() -> None:
    """environment.yml asks for the Python of pyproject.toml, and leaves every package to the lock."""
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    named = [Requirement(entry) for entry in dependencies if isinstance(entry, str)]
    python = {requirement.name: requirement.specifier for requirement in named}.pop("python")
    assert str(python) == PYPROJECT["project"]["requires-python"]
    assert {requirement.name for requirement in named} == {"python", "pip"}
    assert [entry for entry in dependencies if isinstance(entry, dict)] == [{"pip": ["-r requirements.lock"]}]


def test_no_file_names_a_registry_or_a_place_on_a_machine() -> None:
    """No file of the project sends an installer to a host, or knows where somebody's files lie."""
    found = []
    for path in _tracked():
        text = path.read_bytes().decode("utf-8", errors="replace")
        found += [
            f"{path.relative_to(ROOT)}: {match[0]}"
            for match in re.finditer(f"{REGISTRIES.pattern}|{MACHINES.pattern}", text)
        ]
    assert not found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_holds_one_concept(path: Path) -> None:
    """No module is longer than 400 lines, and its first line says which question it answers."""
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    assert ast.get_docstring(ast.parse(text))


def _core_functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    """Yield the public functions of the core with the names they are called by."""
    for name in chain.from_iterable(CORE):
        path = PACKAGE.joinpath(*name.split(".")).with_suffix(".py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body if path.exists() else ():
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                yield f"{name}.{node.name}", node


@pytest.mark.parametrize(
    ("name", "function"), list(_core_functions()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_core_function_shows_what_it_does(name: str, function: ast.FunctionDef) -> None:
    """Each public function of the core says in a sentence what it does, and shows it in an example that runs."""
    docstring = ast.get_docstring(function) or ""
    assert docstring.partition("\n")[0].endswith((".", "?", ":")), name
    assert ">>> " in docstring, name


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_is_words_calls_and_charts(path: Path) -> None:
    """A notebook has one cell of parameters, no outputs, cell names of its own, and neither function nor loop."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = notebook["cells"]
    assert sum("parameters" in cell["metadata"].get("tags", ()) for cell in cells) == 1
    assert len({cell["id"] for cell in cells}) == len(cells)
    for cell in cells:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
            logic = (ast.FunctionDef, ast.Lambda, ast.ClassDef, ast.For, ast.While, ast.Try)
            assert not [node for node in ast.walk(ast.parse("".join(cell["source"]))) if isinstance(node, logic)]


def test_every_lint_exception_has_its_reason() -> None:
    """A rule that is switched off, in a line or for a folder, is named and has its reason beside it."""
    exception = re.compile(r"#\s*(?:noqa|type:\s*ignore)(?P<codes>:\s*[A-Z0-9, ]+|\[[a-z-, ]+\])?(?P<reason>.*)")
    bare = []
    for path in (path for path in _tracked() if path.suffix == ".py"):
        with tokenize.open(path) as file:
            comments = [token for token in tokenize.generate_tokens(file.readline) if token.type == tokenize.COMMENT]
        for token in comments:
            match = exception.match(token.string)
            if match and not (match["codes"] and len(re.findall(r"\w+", match["reason"])) >= 2):
                bare.append(f"{path.relative_to(ROOT)}:{token.start[0]}: {token.string}")
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    bare += [line for line in settings if re.search(r'"[A-Z]{1,4}[0-9]+"', line) and "#" not in line]
    assert not bare
