"""Imports point down: which module may know which, and which one holds the door to a library."""

import ast
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from itertools import chain
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "enforcement"

# A module imports only from lines above its own.
CORE = (  # values in, values out
    ("builds", "names", "schema", "verdict", "chance", "spreadsheet", "received_time", "ahead"),
    (
        "catalogue",
        "received",
        "history",
        "when",
        "gamma",
        "rounded_times",
        "importers.batch",
        "importers.table_times",
    ),
    ("policy_values", "sample_shape"),
    ("policy", "policy_problems", "sample_lives", "assumption_values"),  # what people decide
    (
        "policy_text",
        "standing",
        "decision",
        "clock",
        "pauses",
        "guardrails",
        "sample",
        "fates",
        "exposure",
        "volume",
        "patching",
        "pressure",
    ),
    (
        "stage_sums",
        "builds_to_come",
        "standpoint",
        "fleet",
        "check",
        "export.calendar",
        "assumptions",
        "hazards",
        "space",
        "policy_writing",
        "remedies",
        "coming",
        "designer",
    ),  # and for all of them
    (
        "designer_text",
        "outcomes",
        "response",
        "assumptions_text",
        "posterior",
        "survival",
        "candidates",
        "export.target",
    ),
)
ANSWERS = (  # values in, what a person looks at out
    ("course", "acts", "patch_forecast", "life_tables"),
    ("exposed", "outlook", "luck", "lives"),
    ("replay", "charts_theme", "pieces", "calibrate", "backtest", "expected_fleet", "ways"),
    (
        "drift",
        "explain",
        "comparison",
        "charts",
        "charts_fleet",
        "charts_backtest",
        "charts_rollout",
        "charts_frontier",
        "story_fleet",
        "returns",
    ),
    (
        "drift_volume",
        "rollout",
        "expected",
        "week",
        "differences",
        "picture_tables",
        "policy_words",
        "story",
        "story_sources",
        "tenant_report",
    ),
    ("frontier", "sensitivity", "tenant_pages", "story_policy", "rollout_bands", "export.tables", "designer_view"),
    (
        "rollout_differences",
        "export.postfix",
        "export.reach",
        "export.recipients",
        "export.letters",
        "export.exim_acl",
        "export.rego",
        "export.vectors",
    ),
    ("export.notice_plan", "export.notice_texts", "export.exim"),
    ("export.notices",),
)
RING = (  # files, the database, notebooks, the clock of the day
    (
        "interruption",
        "memory",
        "shipped",
        "store_connection",
        "store_tables",
        "export.manifest",
        "importers.csv_text",
        "importers.mail_files",
    ),
    ("export.signing", "export.conformance", "export.loopback", "whole_folder"),
    ("export.verify",),
    ("export.install",),
    ("store_names", "store_spool", "store_records", "importers.table_columns"),
    ("importers.table_rows", "importers.parquet_file", "importers.text_lines", "store_logged"),
    (
        "export.milter",
        "export.postfix_server",
        "kept",
        "tables_of_replay",
        "store_forget",
        "store_imports",
        "importers.decision_logs",
        "importers.mail",
        "importers.server_report",
        "importers.tables",
        "importers.tracking_logs",
        "export.write",
    ),
    ("export.exim_server", "export.other_targets"),
    ("store", "importers.sources", "engines.layout", "engines.lake", "engines.spark_session"),
    ("engines.duckdb",),
    ("engines.polars", "engines.spark"),
    ("engines.lakes",),
    ("workbench", "intake", "seen_patching"),
    ("forecasts", "announcing", "drifts", "designer_files"),
    ("searches", "weekly", "report_values", "exporting", "designer_ahead"),
    ("designer_session",),
    ("designer_widget",),
    ("provenance", "report_parameters", "backtested"),
    ("story_backtest", "story_rollout", "story_frontier", "story_week"),
    ("report_runs",),
    ("report_kernel", "report_page", "report_index"),
    ("report", "report_strip"),
    ("report_mail", "tenants"),
    ("answers",),
    ("terminal",),
    ("printing_conformance", "printing_drift", "printing_forecast", "printing_frontier", "commands.options"),
    ("printing",),
    (
        "commands.conformance",
        "commands.drift",
        "commands.forecast",
        "commands.frontier",
        "commands.milter",
        "commands.production",
        "commands.reports",
        "commands.tenants",
    ),
    ("__main__",),
)
LAYERS = {f"enforcement.{name}": layer for layer, names in enumerate(CORE + ANSWERS + RING) for name in names}

# Library → the modules that may import it.
DOORS = {
    "duckdb": ("store*", "engines.duckdb"),
    "pyspark": ("engines.spark*",),
    "py4j": ("engines.spark*",),
    "Milter": ("export.milter",),
    "altair": ("charts*",),
    "papermill": ("report*",),
    "nbclient": ("report*",),
    "nbconvert": ("report*",),
    "nbformat": ("report*",),
    "vl_convert": ("report*",),
    "securesystemslib": ("export.signing",),
    "cryptography": ("export.signing",),
    "numba": ("lives",),
    "anywidget": ("designer_widget",),
    "tomlkit": ("designer_text",),
    "typer": ("__main__", "terminal", "commands*"),
    "rich": ("__main__", "terminal", "commands*"),
}

# What the core may not touch: files, other programs, the machine, the clock of the day.
WORLD = ("os", "sys", "io.open", "pathlib", "subprocess", "socket", "shutil", "tempfile", "time", "duckdb")


def _imports(path: Path) -> Iterator[tuple[str, int]]:
    """Yield each imported name with its line: `a.b` for `import a.b` and for `from a import b`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno}: relative import"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


@cache
def _modules() -> dict[str, Path]:
    """Return the package's modules by name; an `__init__.py` goes by its folder's name."""
    paths = sorted(PACKAGE.rglob("*.py"))
    dotted = (".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in paths)
    return {name.removesuffix(".__init__"): path for name, path in zip(dotted, paths, strict=True)}


def _module_of(imported: str) -> str:
    """Return the module that an imported name of ours comes from."""
    return imported if imported in _modules() else imported.rpartition(".")[0]


def _layer(module: str) -> int | None:
    """Return a module's layer; a module in a folder has its folder's when it is not listed itself."""
    return LAYERS.get(module, LAYERS.get(module.rpartition(".")[0]))


@pytest.mark.parametrize("module", sorted(_modules()))
def test_imports_point_down(module: str) -> None:
    """Each module has a layer and imports only from lower ones."""
    path = _modules()[module]
    if path.name == "__init__.py" and not any(_imports(path)):
        return
    layer = _layer(module)
    assert layer is not None, f"{module} has no layer: give it one in {Path(__file__).name}"
    for imported, line in _imports(path):
        if imported.split(".")[0] == "enforcement" and imported != "enforcement.__version__":
            below = _layer(_module_of(imported))
            assert below is not None, f"{path.name}:{line}: {imported} has no layer"
            assert below < layer, f"{path.name}:{line}: {module} (layer {layer}) imports {imported} (layer {below})"


def test_every_listed_module_exists() -> None:
    """The list names no module that is gone."""
    assert set(LAYERS) <= set(_modules())


@pytest.mark.parametrize("library", sorted(DOORS))
def test_a_library_has_one_door(library: str) -> None:
    """DuckDB, Altair, papermill and typer are imported by the modules that wrap them and by no other."""
    users = {
        module.removeprefix("enforcement.")
        for module, path in _modules().items()
        if any(imported.split(".")[0] == library for imported, _ in _imports(path))
    }
    assert users, f"nothing imports {library}"
    assert not {user for user in users if not any(fnmatch(user, door) for door in DOORS[library])}


@pytest.mark.parametrize("module", [f"enforcement.{name}" for name in chain.from_iterable(CORE + ANSWERS)])
def test_the_core_touches_no_world(module: str) -> None:
    """A core module takes and returns values: nothing in it reads files, the environment or the clock of the day."""
    imported = {name for name, _ in _imports(_modules()[module])}
    assert not {name for name in imported if name.split(".")[0] in WORLD or name in WORLD}
    tree = ast.parse(_modules()[module].read_text(encoding="utf-8"))
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert not called & {"open", "print", "input", "date.today", "datetime.now", "datetime.today", "datetime.utcnow"}
