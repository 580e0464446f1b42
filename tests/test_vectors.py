"""Vectors: what the model says of an export's cases, and that all kinds of cases are among them."""

from collections import defaultdict
from datetime import timedelta

import pytest
from exports import World, make_world

from enforcement.export.conformance import Vector, read_vectors
from enforcement.export.target import Peer, answer, read_lookup
from enforcement.export.vectors import vectors_jsonl


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def vectors(world: World) -> list[Vector]:
    return read_vectors((world.out / "vectors.jsonl").read_bytes())


def test_the_tables_say_what_the_history_says(world: World, vectors: list[Vector]) -> None:
    """Two ways to the same answer: the history through `decide`, and the tables through `answer`."""
    lookup = read_lookup((world.out / "postfix" / "tables.json").read_bytes())
    for each in vectors:
        said = answer(lookup, Peer(each.received, each.ip, each.certificate), each.at.replace(tzinfo=None))
        wanted = each.expect
        assert (str(said.verdict), str(said.reason), said.stage) == (wanted.verdict, wanted.reason, wanted.stage), each
        assert (said.reply.text if said.reply else None) == wanted.text


def test_every_class_has_each_minute_at_both_ends(vectors: list[Vector]) -> None:
    """60 minutes at :00 and :59 for each server that stands for a class."""
    seen = defaultdict(set)
    for each in vectors:
        if each.expect.reason == "enforced" and each.at.hour == 13 and len(each.received) == 1:
            seen[each.server, each.at.date()].add((each.at.minute, each.at.second))
    whole = {(minute, second) for minute in range(60) for second in (0, 59)}
    assert sum(found >= whole for found in seen.values()) >= 15


def test_both_sides_of_the_midnights_are_there(world: World, vectors: list[Vector]) -> None:
    """Wherever a stage changes while the export holds, on either side of it; and where the export ends."""
    at = {each.at.replace(tzinfo=None) for each in vectors}
    stages = {(each.server, each.at.replace(tzinfo=None)): each.expect.stage for each in vectors}
    changes = [
        (server, when)
        for (server, when), stage in stages.items()
        if when.hour == when.minute == when.second == 0
        and stage is not None
        and stages.get((server, when - timedelta(seconds=1)), stage) != stage
    ]
    assert len(changes) >= 5
    for day in (world.known.valid_from, world.known.not_after + timedelta(days=1)):
        midnight = next(
            each for each in at if each.date() == day and (each.hour, each.minute, each.second) == (0, 0, 0)
        )
        assert midnight - timedelta(seconds=1) in at


def test_the_cases_that_were_asked_for_are_there(vectors: list[Vector]) -> None:
    assert any("\n" in line for each in vectors for line in each.received)
    assert any(":" in each.ip and each.expect.reason == "enforced" for each in vectors)
    assert any(each.certificate for each in vectors)
    assert any(len(each.received) == 2 and each.direct for each in vectors)
    assert any(len(line) > 2_000 for each in vectors for line in each.received)
    assert {"standing still", "no cohort", "not direct", "unknown build"} <= {each.expect.reason for each in vectors}


def test_the_same_history_gives_the_same_bytes(world: World) -> None:
    assert vectors_jsonl(world.oracle) == (world.out / "vectors.jsonl").read_bytes()
