"""Postfix with the milter, two Rego evaluators, and any program that answers vectors, as targets."""

import contextlib
import json
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

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
        """Give the vectors to the program, a JSON object a line, without what they expect; read an answer a line."""
        asked = "".join(f"{vector.model_dump_json(exclude={'expect'})}\n" for vector in vectors)
        with tempfile.TemporaryFile() as given:  # a program that does not read to the end breaks no pipe
            given.write(asked.encode(errors="surrogateescape"))
            given.seek(0)
            try:
                done = subprocess.run(  # noqa: S603 - the program that the user names
                    [*self.command, str(self.folder)],
                    stdin=given,
                    capture_output=True,
                    check=False,
                    timeout=_MOST_SECONDS,
                )
            except subprocess.TimeoutExpired:
                raise ValueError(
                    f"{self.command[0]} has not ended within {_MOST_SECONDS} s (expected answers, then its end)"
                ) from None
        if done.returncode:
            said = (done.stderr.decode(errors="replace").strip().splitlines() or ["nothing on standard error"])[-1]
            raise ValueError(f"{self.command[0]} ended with {done.returncode}: {said[:200]}")
        return [read_answer(line) for line in done.stdout.splitlines() if line.strip()]


def program(command: str) -> Target:
    """Make a target of a command line; the export's folder comes as its last argument."""
    words = tuple(shlex.split(command))
    if not words or shutil.which(words[0]) is None:
        raise ValueError(f"no target {command!r} (expected exim, postfix, rego, or a program that can be run)")

    @contextlib.contextmanager
    def start(folder: Path) -> Iterator[_Program]:
        yield _Program(words, folder)

    return Target(name=words[0], start=start)
