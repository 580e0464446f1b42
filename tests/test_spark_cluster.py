"""Spark on a real cluster, a master and two workers: the answer of one machine, and one line when it fails."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from spark_cluster import Cluster, cluster, expect_spark, free_port, processes_of, stop

from enforcement import sample, shipped
from enforcement.sample import Extent

SECONDS = 280
POLICIES = ("ninety-days", "gentler")
ONE = POLICIES[:1]  # a second one takes Spark as long again


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster")) as started:
        yield started


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three Parquet files of a made-up fleet, with rows among them that cannot be used."""
    folder = tmp_path_factory.mktemp("made up [1] {a,b}")  # nothing in a path is a pattern
    extent = Extent(messages=30_000, servers=400, days=120, last_on=date(2026, 10, 31))
    rows = sample.make_sample(shipped.load_catalogue(), shipped.load_sample_shape(), extent).handovers
    bad = rows.head(40).with_columns(server=pl.lit("no name"))
    for n, part in enumerate((rows.head(10_000), rows.slice(10_000, 15_000), pl.concat([rows.slice(25_000), bad]))):
        part.write_parquet(folder / f"part-{n}.parquet")
    return folder


def command(*arguments: str | Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    whole = os.environ | {"NO_COLOR": "1"} | dict(env or {})
    return subprocess.run(
        [sys.executable, "-m", "enforcement", *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=SECONDS, env=whole,
    )  # fmt: skip


def answer(*arguments: str | Path, policies: Sequence[str] = ONE, env: Mapping[str, str] | None = None) -> Any:
    done = command("replay", *policies, *arguments, "--format", "json", env=env)
    assert done.returncode == 0, done.stderr
    assert "WARN" not in done.stderr
    assert "\tat " not in done.stderr
    return json.loads(done.stdout)


def refused(*arguments: str | Path, env: Mapping[str, str] | None = None) -> str:
    done = command("replay", "ninety-days", *arguments, env=env)
    assert (done.returncode, done.stdout) == (2, ""), (done.returncode, done.stdout, done.stderr)
    told = [line for line in done.stderr.splitlines() if line.startswith("enforcement: ")]
    others = [line for line in done.stderr.splitlines() if not line.startswith("enforcement: ")]
    assert len(told) == 1, done.stderr
    assert all("rows" in line for line in others), done.stderr  # what was read before it failed
    return told[0]


def on(started: Cluster, traffic: str | Path) -> tuple[str | Path, ...]:
    return ("--engine", "spark", "--master", started.url, "--traffic", traffic)


def same_everywhere(started: Cluster, traffic: Path, store: Path, policies: Sequence[str] = ONE) -> Any:
    """Replay on the cluster, by DuckDB, by Polars, and from a store into which the same was imported."""
    found = answer(*on(started, traffic), policies=policies, env=started.environment)
    assert found == answer("--engine", "duckdb", "--traffic", traffic, policies=policies)
    assert found == answer("--engine", "polars", "--traffic", traffic, policies=policies)
    files = sorted(traffic.glob("*.parquet")) if traffic.is_dir() else [traffic]
    assert command("import", *files, "--store", store).returncode == 0
    assert found == answer("--store", store, policies=policies)
    return found


def test_a_cluster_gives_the_answer_of_one_machine(running: Cluster, made_up: Path, tmp_path: Path) -> None:
    """Spark on two workers, DuckDB, Polars and a store of the same rows: the same JSON, and both workers worked."""
    found = same_everywhere(running, made_up, tmp_path / "traffic.duckdb", POLICIES)
    assert found[0]["messages"]["subject"] > 10_000
    assert all(list(running.folder.glob(f"work{n}/app-*")) for n in range(2))


def test_an_address_is_read_by_spark_itself(running: Cluster, made_up: Path) -> None:
    """What lies at an address that only Spark knows gives the same answer, and says what was not used."""
    for file in made_up.glob("*.parquet"):
        there = running.folder / "lake" / "year=2026" / file.name
        there.parent.mkdir(exist_ok=True)
        shutil.copy(file, there)
    done = command("replay", *ONE, *on(running, "viewfs://lake/mail"), "--format", "json", env=running.environment)
    assert json.loads(done.stdout) == answer("--traffic", made_up)
    assert "viewfs://lake/mail: 30,040 rows read = " in done.stderr
    assert "rows that cannot be used: 40: not a server name: 'no name'" in done.stderr


def test_the_real_sample(running: Cluster, real_data: Path, tmp_path: Path) -> None:
    """The hand-overs of 12,800 real mails, written as Parquet."""
    store = tmp_path / "mail.duckdb"
    assert command("import", real_data / "mail-sample.mbox.gz", "--store", store).returncode == 0
    from enforcement.store import open_store  # noqa: PLC0415 - the fixture decides whether this test runs

    with open_store(store) as opened:
        rows = opened.query("select sent_at, server, build, tenant, hop, route, messages from traffic")
    rows.write_parquet(tmp_path / "mail.parquet")
    found = same_everywhere(running, tmp_path / "mail.parquet", tmp_path / "again.duckdb")
    assert found == answer("--store", store)
    assert found[0]["messages"]["subject"] == 3_885


def test_no_process_is_left(running: Cluster, made_up: Path) -> None:
    """Spark's Java ends with the command, after Ctrl-C too, which ends it within seconds in one line."""
    mark = f"ENFORCEMENT_TEST_MARK_{os.getpid()}_{time.monotonic_ns()}"
    assert (
        command("replay", "ninety-days", *on(running, made_up), env=running.environment | {mark: "1"}).returncode == 0
    )
    assert processes_of(mark) == []
    started = subprocess.Popen(
        [sys.executable, "-m", "enforcement", "replay", "ninety-days", *map(str, on(running, made_up))],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | running.environment | {mark: "1"},
    )  # fmt: skip
    work = set(running.folder.glob("work0/app-*"))
    until = time.monotonic() + 60
    while set(running.folder.glob("work0/app-*")) == work and time.monotonic() < until:
        time.sleep(0.1)
    time.sleep(2)
    os.kill(started.pid, signal.SIGINT)
    stdout, stderr = started.communicate(timeout=40)
    assert (started.returncode, stdout) == (130, ""), stderr
    assert "Traceback" not in stderr
    assert "interrupted" in stderr
    assert processes_of(mark) == []


def test_a_worker_that_dies_is_made_up_for(made_up: Path, tmp_path: Path) -> None:
    """With a worker and its executor killed in the middle, the other does the work."""
    with cluster(tmp_path / "cluster") as started:
        killer = threading.Thread(target=_kill_when_working, args=(started,))
        killer.start()
        found = answer(*on(started, made_up), env=started.environment)
        killer.join()
        assert started.workers[0].poll() is not None
    assert found == answer("--traffic", made_up)


def _kill_when_working(started: Cluster) -> None:
    until = time.monotonic() + 120
    while not list(started.folder.glob("work0/app-*/0")) and time.monotonic() < until:
        time.sleep(0.2)
    time.sleep(3)
    stop(started.workers[0])


def test_without_workers_it_ends(made_up: Path, tmp_path: Path) -> None:
    """A master that nobody works for is said after a minute, not waited for."""
    with cluster(tmp_path / "cluster", n_workers=0) as started:
        told = refused(*on(started, made_up), env=started.environment)
    assert f"{started.url}: no worker took up work" in told


def test_no_master(made_up: Path) -> None:
    """A master that is not there is said at once."""
    expect_spark()
    url = f"spark://127.0.0.1:{free_port()}"
    assert f"{url}: no Spark master answers there" in refused(
        "--engine", "spark", "--master", url, "--traffic", made_up
    )


def test_another_service_than_a_master(made_up: Path) -> None:
    """Something that listens but is no Spark master ends in a line, in bounded time."""
    expect_spark()
    with socket.create_server(("127.0.0.1", 0)) as other:
        url = f"spark://127.0.0.1:{other.getsockname()[1]}"
        told = refused("--engine", "spark", "--master", url, "--traffic", made_up)
    assert f"{url}: no Spark master took us in" in told


def test_no_java(made_up: Path, tmp_path: Path) -> None:
    """Without Java, the line says what to install."""
    empty = tmp_path / "empty"
    empty.mkdir()
    told = refused("--engine", "spark", "--traffic", made_up, env={"PATH": str(empty), "JAVA_HOME": ""})
    assert "no Java found: Spark needs Java 17 or newer" in told


def test_a_java_that_is_too_old(made_up: Path, tmp_path: Path) -> None:
    """A Java that does not start Spark is said in a line."""
    expect_spark()
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'Error: UnsupportedClassVersionError: class file version 61.0' >&2\nexit 1\n")
    java.chmod(0o755)
    told = refused("--engine", "spark", "--traffic", made_up, env={"JAVA_HOME": str(tmp_path)})
    assert "too old" in told


@pytest.mark.parametrize("folder", [None, ""])
def test_yarn_without_its_settings(folder: str | None, made_up: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Spark needs to find YARN is named."""
    expect_spark()
    for name in ("HADOOP_CONF_DIR", "YARN_CONF_DIR"):
        monkeypatch.delenv(name, raising=False)
        if folder is not None:
            monkeypatch.setenv(name, folder)
    told = refused("--engine", "spark", "--master", "yarn", "--traffic", made_up)
    assert told.endswith("(set HADOOP_CONF_DIR or YARN_CONF_DIR: the folder with yarn-site.xml)")


def test_no_pyspark(made_up: Path, tmp_path: Path) -> None:
    """Without PySpark, the line says how to get it."""
    (tmp_path / "pyspark").mkdir()
    (tmp_path / "pyspark" / "__init__.py").write_text("raise ModuleNotFoundError('no', name='pyspark')\n")
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\n")
    java.chmod(0o755)
    env = {"PYTHONPATH": str(tmp_path), "JAVA_HOME": str(tmp_path)}
    told = refused("--engine", "spark", "--traffic", made_up, env=env)
    assert "PySpark is not installed (pyspark): `make spark`" in told
