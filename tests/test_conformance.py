"""Targets say what the model says, a broken one is found out, and anybody can try one of theirs."""

import contextlib
import json
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from exports import World, make_world, random_cases
from mail_servers import need_exim, need_rego
from worlds import answer, refused, run

from enforcement.export import exim_server, other_targets
from enforcement.export.conformance import Agreement, Answer, Running, Target, Vector, conform, read_vectors

N_EVALUATED = 100_000
HOSTILE_SERVICE = '5% $sender {x} "y" \\N  a: b | c'


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), service=HOSTILE_SERVICE)


@pytest.fixture(scope="module")
def vectors(world: World) -> list[Vector]:
    return read_vectors((world.out / "vectors.jsonl").read_bytes())


@pytest.fixture(scope="module")
def many(world: World, vectors: list[Vector]) -> list[Vector]:
    """The vectors of the export, and random ones."""
    made = random_cases(world, N_EVALUATED - len(vectors), seed=7)
    return [*vectors, *(world.vector(number, case) for number, case in enumerate(made, start=1_000_000))]


def whole(agreement: Agreement) -> None:
    shown = [(each.vector.id, each.fields, each.vector.received) for each in agreement.differences[:5]]
    assert not agreement.differences, (agreement.n_agree, agreement.n_asked, shown)


def test_exim_evaluates_as_the_model_decides(world: World, many: list[Vector]) -> None:
    """Code, enhanced code, text, reason and stage of 100,000 cases."""
    need_exim()
    found = conform(exim_server.EVALUATED, world.out, many)
    whole(found)
    assert found.n_asked == N_EVALUATED


def test_exim_tells_its_peers_what_the_model_decides(world: World, vectors: list[Vector]) -> None:
    """Code, enhanced code and text of over 1,000 messages in real sessions, each at its own minute."""
    need_exim()
    found = conform(exim_server.SERVER, world.out, vectors)
    whole(found)
    assert found.n_asked >= 1_000


def test_two_rego_evaluators_decide_as_the_model(world: World, many: list[Vector]) -> None:
    """100,000 cases for the fast one, 2,000 for the other one."""
    need_rego()
    whole(conform(other_targets.REGORUS, world.out, many))
    whole(conform(other_targets.REGO_CPP, world.out, many))


def test_the_cases_are_many_and_of_all_kinds(vectors: list[Vector], many: list[Vector]) -> None:
    """Nothing agrees for want of cases: each reason and each verdict comes up, in the vectors and at random."""
    reasons = {
        "enforced", "standing still", "new detection", "no cohort", "not vulnerable", "unknown build", "not direct",
        "no exchange server", "expired", "not yet valid",
    }  # fmt: skip
    for cases in (vectors, many):
        assert {each.expect.reason for each in cases} == reasons
        assert {each.expect.verdict for each in cases} == {"accept", "defer", "reject"}
    seconds = Counter((each.at.minute, each.at.second) for each in vectors if each.expect.reason == "enforced")
    assert {(minute, second) for minute in range(60) for second in (0, 59)} <= set(seconds)


def _replaced(name: str, old: bytes, new: bytes) -> Callable[[Path], None]:
    def break_it(out: Path) -> None:
        content = (out / name).read_bytes()
        assert old in content
        (out / name).write_bytes(content.replace(old, new))

    return break_it


BROKEN = {
    "the throttled minutes come first": ("exim", _replaced("exim/enforcement.acl", b"{reject}\\\n", b"{defer}\\\n")),
    "a minute too late": ("exim", _replaced("exim/enforcement.acl", b"%60+60-", b"%60+59-")),
    "the second line counts": ("exim", _replaced("exim/enforcement.acl", b"${listextract{2}", b"${listextract{3}")),
    "any line counts": ("exim", _replaced("exim/enforcement.acl", b"{not_direct}", b"{no_exchange_server}")),
    "pauses are forgotten": ("exim", _replaced("exim/enforcement.acl", b"{7}{,}", b"{4}{,}")),
    "a day too long": (
        "rego",
        _replaced("rego/enforcement/policy.rego", b"input.day > tables", b'"2024-04-05" > tables'),
    ),
    "a day early": ("rego", _replaced("rego/enforcement/policy.rego", b"found.from <= input", b"found.from < input")),
    "no offset": ("rego", _replaced("rego/enforcement/policy.rego", b"input.minute - known.offset", b"input.minute")),
    "another text": ("rego", _replaced("rego/data.json", b"mins/hr.", b"min/hr.")),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_generator_is_found_out(name: str, world: World, vectors: list[Vector], tmp_path: Path) -> None:
    """Each mistake makes the target differ."""
    target, break_it = BROKEN[name]
    need_exim() if target == "exim" else need_rego()
    out = tmp_path / "out"
    shutil.copytree(world.out, out)
    break_it(out)
    asked = exim_server.EVALUATED if target == "exim" else other_targets.REGORUS
    assert conform(asked, out, vectors).differences


ECHO = """
import json, sys
expected = {json.loads(line)["id"]: json.loads(line)["expect"] for line in open(sys.argv[-1] + "/vectors.jsonl")}
for line in sys.stdin:
    vector = json.loads(line)
    assert "expect" not in vector
    said = expected[vector["id"]]
    if "--wrong" in sys.argv and vector["id"] == 5:
        said = {"verdict": "reject", "code": 550, "enhanced_code": "5.7.230", "text": "no"}
    print(json.dumps(said))
"""


def test_of_many_cases_none_of_its_kind_is_left_out(world: World, vectors: list[Vector]) -> None:
    """Where a server is asked some of the cases, minutes are many and odd names few: all names come up."""
    many = [each.model_copy(update={"id": 1_000_000 * n + each.id}) for n in range(30) for each in vectors]
    asked: list[Vector] = []

    @contextlib.contextmanager
    def start(_: Path) -> Iterator[Running]:
        yield Remembers()

    class Remembers:
        def answers(self, given: Sequence[Vector]) -> list[Answer]:
            asked.extend(given)
            return [each.expect for each in given]

    whole(conform(Target(name="remembers", start=start, at_most=1_200), world.out, many))
    assert len(asked) == 1_200
    tops = {each.received[0].partition(";")[0] for each in vectors if each.received}
    assert {each.received[0].partition(";")[0] for each in asked if each.received} == tops
    assert {each.at.minute for each in asked} == set(range(60))
    assert [each.id for each in asked] == sorted(each.id for each in asked)


def test_a_program_can_be_a_target(world: World, tmp_path: Path) -> None:
    """It reads vectors without their answers, and writes an answer a line."""
    (tmp_path / "mine.py").write_text(ECHO)
    command = f"{sys.executable} {tmp_path / 'mine.py'}"
    (good,) = answer("conformance", world.out, "--target", command)
    assert good["agree"] == good["asked"] > 1_000
    bad = run("conformance", world.out, "--target", f"{command} --wrong")
    assert bad.returncode == 1
    assert "NOT every answer" in bad.stdout
    assert "5.7.230" in bad.stdout
    (few,) = answer("conformance", world.out, "--target", command, "--limit", "10")
    assert few["asked"] == 10


def test_what_cannot_be_asked_is_told_in_a_line(world: World, tmp_path: Path) -> None:
    assert "expected the folder of an export" in refused("conformance", tmp_path, "--target", "rego")
    assert "no target 'nonesuch'" in refused("conformance", world.out, "--target", "nonesuch")
    shutil.copytree(world.out, tmp_path / "out")
    (tmp_path / "out" / "vectors.jsonl").write_text('{"id": 1}\n')
    assert "vectors.jsonl line 1: at: Field required" in refused("conformance", tmp_path / "out", "--target", "rego")
    for text, told in (("print('x')", "not an answer: 'x'"), ("raise SystemExit(3)", "ended with 3"), ("", None)):
        (tmp_path / "bad.py").write_text(text)
        done = run("conformance", world.out, "--target", f"{sys.executable} {tmp_path / 'bad.py'}")
        assert done.returncode == (2 if told else 1), done.stderr
        assert (told or "") in done.stderr + done.stdout


def test_a_program_is_heard_no_longer_than_it_answers(
    vectors: list[Vector], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much it writes, and whatever it has started; words of an error are kept, though a flood came before."""
    monkeypatch.setattr(other_targets, "_MOST_SECONDS", 1)
    endless = "import json, sys\nwhile True: print(json.dumps({'verdict': 'accept'}))"
    cases = {
        endless: "gave more than 5 answers to 5 vectors",
        "import sys\nwhile True: sys.stdout.write('x' * 1000)": "a line of more than 10,000 bytes",
        "import subprocess\nsubprocess.run(['sleep', '60'])": "has not ended within 1 s",
        "import sys\nfor n in range(20_000): print('noise', file=sys.stderr)\nsys.exit('no tables')": "no tables",
    }
    for text, told in cases.items():
        (tmp_path / "program.py").write_text(text)
        target = other_targets.program(f"{sys.executable} {tmp_path / 'program.py'}")
        with pytest.raises(ValueError, match=told):
            conform(target, tmp_path, vectors[:5])


def test_the_command_drives_rego(world: World) -> None:
    need_rego()
    found = answer("conformance", world.out, "--target", "rego", "--limit", "200")
    assert [(each["target"], each["asked"], each["agree"]) for each in found] == [
        ("rego (regorus)", 200, 200),
        ("rego (rego-cpp)", 200, 200),
    ]
    assert json.loads((world.out / "rego" / ".manifest").read_bytes())["revision"] == "2024032100"
