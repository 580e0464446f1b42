"""Postfix with the milter, two Rego evaluators, and any program that answers vectors, as targets."""

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Final

from enforcement.export.conformance import (
    Answer,
    Target,
    Vector,
    answer_of,
    answer_of_reply,
    read_answer,
    rego_input,
)
from enforcement.export.postfix_server import PostfixServer, postfix_server
from enforcement.export.target import Peer

_MOST_SECONDS: Final = 600
_LONGEST_ANSWER: Final = 10_000  # bytes of a line; a reply of SMTP has some hundred
_LINES_KEPT: Final = 3  # of what a program says beside its answers
_QUERY: Final = "data.enforcement.decision"
_EXPECTED: Final = "expected the packages opa-eval and regopy: pip install opa-eval regopy"


@dataclass(frozen=True, slots=True)
class _Regorus:
    evaluator: Any

    def answers(self, vectors: Sequence[Vector]) -> Iterator[Answer]:
        for vector in vectors:
            yield answer_of(self.evaluator.evaluate_parsed(json.dumps(rego_input(vector))))


@contextlib.contextmanager
def _regorus(folder: Path) -> Iterator[_Regorus]:
    try:
        from opa_eval import OpaEval  # noqa: PLC0415 - only those who try a policy need it
    except ModuleNotFoundError:
        raise LookupError(f"no Rego evaluator here ({_EXPECTED})") from None
    data = (folder / "rego" / "data.json").read_text(encoding="utf-8")
    policy = folder / "rego" / "enforcement" / "policy.rego"
    yield _Regorus(OpaEval(str(policy), data_json=data, query=_QUERY))


@dataclass(frozen=True, slots=True)
class _RegoCpp:
    interpreter: Any
    bundle: Any

    def answers(self, vectors: Sequence[Vector]) -> Iterator[Answer]:
        for vector in vectors:
            self.interpreter.set_input(rego_input(vector))
            said = json.loads(str(self.interpreter.query_bundle(self.bundle)))
            yield answer_of(said["expressions"][0])


@contextlib.contextmanager
def _rego_cpp(folder: Path) -> Iterator[_RegoCpp]:
    try:
        from regopy import Interpreter  # noqa: PLC0415 - only those who try a policy need it
    except ModuleNotFoundError:
        raise LookupError(f"no second Rego evaluator here ({_EXPECTED})") from None
    interpreter = Interpreter()
    interpreter.add_data_json((folder / "rego" / "data.json").read_text(encoding="utf-8"))
    interpreter.add_module("enforcement", (folder / "rego" / "enforcement" / "policy.rego").read_text(encoding="utf-8"))
    yield _RegoCpp(interpreter, interpreter.build(_QUERY, []))


REGORUS: Final = Target(name="rego (regorus)", start=_regorus)
REGO_CPP: Final = Target(name="rego (rego-cpp)", start=_rego_cpp, at_most=2_000)


@dataclass(frozen=True, slots=True)
class _Postfix:
    server: PostfixServer

    def answers(self, vectors: Sequence[Vector]) -> Iterator[Answer]:
        cases = [(Peer(vector.received, vector.ip), vector.at.replace(tzinfo=None)) for vector in vectors]
        for code, text in self.server.replies(cases):
            yield answer_of_reply(code, text)


@contextlib.contextmanager
def _postfix(folder: Path) -> Iterator[_Postfix]:
    if find_spec("Milter") is None:
        raise LookupError("no milter library here (expected `make milter`)")
    with postfix_server(folder) as server:
        yield _Postfix(server)


# No certificate reaches the milter.
POSTFIX: Final = Target(
    name="postfix (SMTP)", start=_postfix, takes=lambda vector: vector.certificate is None, at_most=1_200
)


@dataclass(frozen=True, slots=True)
class _Program:
    command: tuple[str, ...]
    folder: Path

    def answers(self, vectors: Sequence[Vector]) -> list[Answer]:
        """Give the vectors to the program, a JSON object a line, without what they expect; read an answer a line.

        What it writes beyond that is not kept, whatever it writes.
        """
        asked = "".join(f"{vector.model_dump_json(exclude={'expect'})}\n" for vector in vectors)
        name, late = self.command[0], threading.Event()
        with tempfile.TemporaryFile() as given:  # a program that does not read to the end breaks no pipe
            given.write(asked.encode(errors="surrogateescape"))
            given.seek(0)
            with subprocess.Popen(  # noqa: S603 - the program that the user names
                [*self.command, str(self.folder)],
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            ) as process:

                def stop() -> None:
                    late.set()
                    _end(process)

                watch = threading.Timer(_MOST_SECONDS, stop)
                watch.start()
                said: deque[bytes] = deque(maxlen=_LINES_KEPT)
                assert process.stdout is not None
                assert process.stderr is not None
                hearing = threading.Thread(target=_hear, args=(process.stderr, said), daemon=True)
                hearing.start()
                try:
                    found = _read(process.stdout, name, len(vectors))
                    process.wait()
                    hearing.join()
                finally:
                    watch.cancel()
                    if process.poll() is None:
                        _end(process)
        if late.is_set():
            raise ValueError(f"{name} has not ended within {_MOST_SECONDS} s (expected answers, then its end)")
        if process.returncode:
            last = said[-1].decode(errors="replace").strip() if said else "nothing on standard error"
            raise ValueError(f"{name} ended with {process.returncode}: {last[:200]}")
        return [read_answer(line) for line in found]


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program and what it has started, which would keep its pipes open."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _read(stream: IO[bytes], name: str, n_asked: int) -> list[bytes]:
    """Read the lines of answers, no more and none longer than answers can be."""
    found: list[bytes] = []
    while line := stream.readline(_LONGEST_ANSWER):
        if len(line) == _LONGEST_ANSWER:
            raise ValueError(f"{name} wrote a line of more than {_LONGEST_ANSWER:,} bytes (expected an answer a line)")
        if line.strip():
            found.append(line.strip())
        if len(found) > n_asked:
            raise ValueError(f"{name} gave more than {n_asked:,} answers to {n_asked:,} vectors (expected one each)")
    return found


def _hear(stream: IO[bytes], said: deque[bytes]) -> None:
    """Keep the last lines, cut, that a program writes beside its answers."""
    while line := stream.readline(_LONGEST_ANSWER):
        if line.strip():
            said.append(line)


def program(command: str) -> Target:
    """Make a target of a command line; the export's folder comes as its last argument."""
    words = tuple(shlex.split(command))
    if not words or shutil.which(words[0]) is None:
        raise ValueError(f"no target {command!r} (expected exim, postfix, rego, or a program that can be run)")

    @contextlib.contextmanager
    def start(folder: Path) -> Iterator[_Program]:
        yield _Program(words, folder)

    return Target(name=words[0], start=start)
