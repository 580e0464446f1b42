"""Reports: a notebook and its parameters become a page, a record, and a line in the index."""

import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from enforcement.report_index import write_index
from enforcement.report_parameters import (
    MODELS,
    NOTEBOOKS,
    ParameterError,
    check_parameters,
    model_of,
    parse_parameters,
)
from enforcement.report_runs import (
    INDEX_NAME,
    Plan,
    State,
    held,
    plan,
    prune,
    read_record,
    started,
    write_record,
)
from enforcement.shipped import load_policy

__all__ = [
    "DEFAULT_OUT",
    "ParameterError",
    "RunResult",
    "check_parameters",
    "parse_parameters",
    "plan_runs",
    "prune",
    "run_all",
    "run_report",
    "write_index",
]

DEFAULT_OUT: Final = NOTEBOOKS.parent / "reports"
_AT_ONCE: Final = 2  # kernels; each takes a processor
_running: Final[set[int]] = set()  # processes of kernels, to end them when the user interrupts


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """How a run ended: its id, its state, its page, why it failed, and whether it was there already."""

    name: str
    run: str
    state: State
    page: Path
    already_run: bool
    error: str | None = None


def plan_runs(
    names: Sequence[str], parameters: Mapping[str, Any], *, store: Path, out: Path = DEFAULT_OUT
) -> list[tuple[Plan, bool]]:
    """Say which runs a report would make, and which of them are there already; nothing runs."""
    plans = [_plan(name, parameters, store, out) for name in names or MODELS]
    return [(planned, _is_done(planned)) for planned in plans]


def run_report(
    name: str, parameters: Mapping[str, Any], *, store: Path, out: Path = DEFAULT_OUT, force: bool = False
) -> RunResult:
    """Run one notebook to a page; the same inputs as before give the run that is there, unless forced.

    Parameters that the notebook cannot run with are a ParameterError; a notebook that fails is a result that says so.
    """
    (result,) = run_all([name], parameters, store=store, out=out, force=force)
    return result


def run_all(
    names: Sequence[str], parameters: Mapping[str, Any], *, store: Path, out: Path = DEFAULT_OUT, force: bool = False
) -> Iterator[RunResult]:
    """Run notebooks (none named: all of them), two at a time, and yield each result as it comes; then the index."""
    plans = [_plan(name, parameters, store, out) for name in names or MODELS]
    if all(_is_done(planned) for planned in plans) and not force:
        yield from (_result(planned, State.DONE, already_run=True) for planned in plans)
        if not (out / INDEX_NAME).is_file():
            write_index(out)
        return
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        try:
            runs = [pool.submit(_run, planned, out, is_forced=force) for planned in plans]
            yield from (run.result() for run in as_completed(runs))
        except BaseException:
            # Interrupted: end what still waits and what still runs; the threads then come to their ends by themselves.
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list(_running):
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            write_index(out)


def _plan(name: str, parameters: Mapping[str, Any], store: Path, out: Path) -> Plan:
    model_of(name)
    given = {"store": str(store)} | dict(parameters)
    if "out" in model_of(name).model_fields and given.get("out") is None:
        policy = check_parameters(name, given).policy_names[-1]  # the one in force comes before it
        given["out"] = str(out / "exports" / load_policy(policy).name)
    return plan(name, check_parameters(name, given), out)


def _is_done(planned: Plan) -> bool:
    record = read_record(planned.folder)
    written = record["parameters"].get("out") if record else None
    return (
        record is not None
        and record["state"] == State.DONE
        and planned.page.is_file()
        and (written is None or Path(written).is_dir())
    )


def _run(planned: Plan, out: Path, *, is_forced: bool) -> RunResult:
    if _is_done(planned) and not is_forced:
        return _result(planned, State.DONE, already_run=True)
    begun_at = time.time()
    with held(planned.folder):
        # Whoever waited for the same run takes what it has made.
        if _is_done(planned) and (not is_forced or planned.page.stat().st_mtime > begun_at):
            return _result(planned, State.DONE, already_run=True)
        planned.page.unlink(missing_ok=True)
        record = started(planned)
        try:
            return _execute(planned, record, out)
        except BaseException as problem:
            is_plain = isinstance(problem, ValueError | LookupError | OSError) and not isinstance(problem, KeyError)
            failure = str(problem) if is_plain else f"{type(problem).__name__}: {problem}"
            _fail(planned, record, failure, time.time() - begun_at)
            if isinstance(problem, Exception):
                return _result(planned, State.FAILED, error=record["error"])
            raise


def _execute(planned: Plan, record: dict[str, Any], out: Path) -> RunResult:
    """Run the notebook, then write its page whatever came of it."""
    from enforcement import report_page  # noqa: PLC0415 - an unchanged run is answered without it
    from enforcement.report_kernel import run_notebook  # noqa: PLC0415 - the same

    began = time.perf_counter()
    ran = run_notebook(planned, _injected(planned), kernels=_running)
    answer, figures = report_page.told_by(ran.notebook)
    record |= {
        "answer": report_page.answer_line(answer),
        "figures": figures,
        "seconds": round(time.perf_counter() - began, 2),
        "peak_memory_bytes": ran.peak_memory_bytes,
        "error": None if ran.error is None else report_page.one_line(ran.error),
    }
    state = State.DONE if ran.error is None else State.FAILED
    bundle = report_page.javascript_bundle(out / ".cache")
    report_page.write_page(ran.notebook, record | {"state": str(state)}, planned.folder, bundle=bundle)
    write_record(planned.folder, record | {"state": str(state)})
    return _result(planned, state, error=record["error"])


def _injected(planned: Plan) -> dict[str, Any]:
    """Give the parameters as papermill writes them into the notebook: days as text."""
    parameters = planned.asked.model_dump(mode="json")
    return parameters | {"run": planned.run} if "run" in parameters else parameters


def _fail(planned: Plan, record: dict[str, Any], failure: str, seconds: float) -> None:
    """Keep that a run failed outside of its notebook."""
    from enforcement.report_page import one_line  # noqa: PLC0415 - an unchanged run is answered without it
    from enforcement.report_runs import killed_page, write_whole  # noqa: PLC0415 - the same

    record |= {"state": str(State.FAILED), "error": one_line(failure), "seconds": round(seconds, 2)}
    write_record(planned.folder, record)
    write_whole(planned.page, killed_page(record))


def _result(planned: Plan, state: State, *, already_run: bool = False, error: str | None = None) -> RunResult:
    return RunResult(
        name=planned.name, run=planned.run, state=state, page=planned.page, already_run=already_run, error=error
    )
