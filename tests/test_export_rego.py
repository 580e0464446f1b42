"""The Rego bundle: the same bytes each time, nothing missing in it, and texts that are ready."""

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest
from exports import World, make_world

from enforcement.export.rego import rego_files


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


def test_the_bundle_holds_the_files_and_no_time(world: World) -> None:
    files = rego_files(world.known)
    assert files == rego_files(world.known)
    with tarfile.open(fileobj=io.BytesIO(files["rego/bundle.tar.gz"])) as bundle:
        inside = {f"rego/{each.name}": each for each in bundle}
        assert {name: bundle.extractfile(each).read() for name, each in inside.items()} == {  # type: ignore[union-attr]  # a file of the bundle, not a folder
            name: content for name, content in files.items() if name != "rego/bundle.tar.gz"
        }
        assert {(each.mtime, each.uid, each.gid, each.uname) for each in inside.values()} == {(0, 0, 0, "")}
    assert gzip.decompress(files["rego/bundle.tar.gz"])
    assert {name: (world.out / name).read_bytes() for name in files} == files


def test_the_roots_own_all_that_is_in_it(world: World) -> None:
    """An engine refuses a bundle with data outside its roots."""
    files = rego_files(world.known)
    manifest = json.loads(files["rego/.manifest"])
    assert manifest == {"revision": "2024032100", "roots": ["enforcement", "enforcement_tables"]}
    assert set(json.loads(files["rego/data.json"])) <= set(manifest["roots"])
    assert b"\npackage enforcement\n" in files["rego/enforcement/policy.rego"]


def test_texts_are_ready_and_times_are_not_reckoned(world: World) -> None:
    """Engines differ in sprintf and in large numbers: the policy uses neither."""
    files = rego_files(world.known)
    policy = files["rego/enforcement/policy.rego"].decode()
    code = "\n".join(each for each in policy.splitlines() if not each.startswith("#"))
    assert not [word for word in ("sprintf", "time.", "cidr", "epoch", "regex") if word in code]
    stages = json.loads(files["rego/data.json"])["enforcement_tables"]["stages"]
    assert stages[2]["reject"]["text"].endswith("connection to Mail blocked for 5 mins/hr.")


def test_the_policy_is_the_same_for_every_export(world: World, tmp_path: Path) -> None:
    other = make_world(tmp_path / "other", window="top of the hour", service="Other", on_failure="defer")
    name = "rego/enforcement/policy.rego"
    assert rego_files(world.known)[name] == rego_files(other.known)[name]
