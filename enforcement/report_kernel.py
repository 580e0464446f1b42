"""A notebook runs: its parameters set, its outputs kept, its memory measured."""

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import papermill
from nbclient.exceptions import DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, NotebookExecutionManager, papermill_engines
from traitlets.config import Config

from enforcement.memory import Watch
from enforcement.report_parameters import NOTEBOOKS
from enforcement.report_runs import EXPECTED_ERRORS, Plan

_ENGINE = "enforcement"
_KERNEL_NAME = "python3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A notebook that has run: with its outputs, and why it stopped before its end."""

    notebook: Mapping[str, Any]
    error: str | None
    peak_memory_bytes: int | None


class _Client(PapermillNotebookClient):  # type: ignore[misc]  # papermill has no types
    """Papermill's client, which looks at the kernel's memory before the kernel ends."""

    def papermill_execute_cells(self) -> None:
        process = getattr(self.km.provisioner, "pid", None)
        if not process:  # a kernel that some other program has started
            super().papermill_execute_cells()
            return
        kernels: set[int] = self.nb_man.kernels
        kernels.add(process)
        watch = Watch(process)
        try:
            with watch:
                super().papermill_execute_cells()
        finally:
            kernels.discard(process)
            self.nb_man.memory |= watch.last


class _Engine(NBClientEngine):  # type: ignore[misc]  # papermill has no types
    """Papermill's engine with that client."""

    @classmethod
    def execute_managed_notebook(
        cls, nb_man: NotebookExecutionManager, kernel_name: str, **kwargs: object
    ) -> Mapping[str, Any]:
        nb_man.kernels, nb_man.memory = kwargs["kernels"], kwargs["memory"]
        # The kernel talks through files that only their owner can open, not through ports that all users share.
        with tempfile.TemporaryDirectory(prefix="enforcement-") as private:
            client = _Client(
                nb_man,
                timeout=None,
                startup_timeout=kwargs["start_timeout"],
                kernel_name=kernel_name,
                log=logging.getLogger(__name__),
                config=Config({"KernelManager": {"transport": "ipc", "ip": f"{private}/kernel"}}),
            )
            return client.execute()


papermill_engines.register(_ENGINE, _Engine)


def run_notebook(planned: Plan, parameters: Mapping[str, Any], *, kernels: set[int]) -> Ran:
    """Run a notebook in a kernel of its own; the notebook with its outputs is kept in the run's folder."""
    for name in ("papermill", "traitlets"):
        logging.getLogger(name).setLevel(logging.ERROR)
    out = planned.folder / "notebook.ipynb"
    memory: dict[str, int] = {}
    try:
        notebook = papermill.execute_notebook(
            NOTEBOOKS / f"{planned.name}.ipynb",
            out,
            parameters=dict(parameters),
            engine_name=_ENGINE,
            kernel_name=_KERNEL_NAME,
            progress_bar=False,
            kernels=kernels,
            memory=memory,
        )
        error = None
    except papermill.PapermillExecutionError as problem:
        notebook = _without_markers(out)
        error = problem.evalue if problem.ename in EXPECTED_ERRORS else f"{problem.ename}: {problem.evalue}"
    except DeadKernelError:
        notebook = _without_markers(out)
        error = f"the kernel died (it was killed, or the machine ran out of memory){_had(memory)}"
    return Ran(notebook=notebook, error=error, peak_memory_bytes=memory.get("peak"))


def _had(memory: Mapping[str, int]) -> str:
    """Say what memory a kernel had when last seen, where the system tells."""
    if "peak" not in memory or "free" not in memory:
        return ""
    at_most, free = (f"{memory[key] / 1e6:,.0f} MB" for key in ("peak", "free"))
    return f": it had {at_most} of memory at most, and {free} were free on the machine"


def _without_markers(path: Path) -> Mapping[str, Any]:
    """Read a notebook that failed, without the cells in which papermill says so."""
    notebook: dict[str, Any] = papermill.iorw.load_notebook_node(str(path))
    notebook["cells"] = [
        cell
        for cell in notebook["cells"]
        if not {"papermill-error-cell-tag", "papermill-error-cell"} & set(cell["metadata"].get("tags", ()))
    ]
    return notebook
