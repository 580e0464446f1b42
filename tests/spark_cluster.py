"""A real Spark cluster on loopback for tests: a master and workers as processes, gone when the test is."""

import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from conftest import absent

START_SECONDS = 90
_QUICK = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"


def expect_spark() -> Path:
    """Give the folder of PySpark, or skip (fail in CI) where it or Java is absent."""
    spec = importlib.util.find_spec("pyspark")
    if spec is None or spec.origin is None:
        absent("PySpark is not installed (`make spark`)")
    if not shutil.which("java"):
        absent("no Java")
    return Path(spec.origin).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Cluster:
    """A running cluster: its address, its processes, and settings for those who use it."""

    url: str
    folder: Path
    master: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """What a command is run with: small executors, from a spark-defaults.conf as users have one."""
        return {"SPARK_CONF_DIR": str(self.folder / "conf")}


@contextmanager
def cluster(folder: Path, *, n_workers: int = 2) -> Iterator[Cluster]:
    """Start a master and workers of one core each; all their processes end with the test."""
    spark = expect_spark()
    (folder / "conf").mkdir(parents=True)
    (folder / "lake").mkdir()
    settings = {
        "spark.executor.memory": "512m",
        "spark.driver.memory": "768m",
        # What lives for seconds is not worth a second compiler.
        "spark.driver.extraJavaOptions": _QUICK,
        "spark.executor.extraJavaOptions": _QUICK,
        # An address that only Spark understands, as those of object stores are: viewfs://lake/mail.
        "spark.hadoop.fs.viewfs.mounttable.lake.link./mail": f"file://{folder / 'lake'}",
    }
    (folder / "conf" / "spark-defaults.conf").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    port = free_port()
    url = f"spark://127.0.0.1:{port}"
    started: list[subprocess.Popen[bytes]] = []
    try:
        address = ["--host", "127.0.0.1", "--port", str(port), "--webui-port", "0"]
        started.append(_start(spark, folder, "master", "master.Master", *address))
        _wait_for(folder / "master.log", "I have been elected leader", started[0])
        running = Cluster(url, folder, started[0])
        for n in range(n_workers):
            sizes = ["--cores", "1", "--memory", "600m", "--webui-port", "0", "--work-dir", str(folder / f"work{n}")]
            started.append(_start(spark, folder, f"worker{n}", "worker.Worker", "--host", "127.0.0.1", *sizes, url))
            running.workers.append(started[-1])
        for n, worker in enumerate(running.workers):
            _wait_for(folder / f"worker{n}.log", "Successfully registered with master", worker)
        yield running
    finally:
        for process in reversed(started):
            stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it started (a worker's executors): all are one group."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)


def processes_of(name: str) -> list[int]:
    """Find the processes whose environment or command line has a text in it."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            text = (place / "cmdline").read_bytes() + (place / "environ").read_bytes()
        except OSError:
            continue
        if name.encode() in text and int(place.name) != os.getpid():
            found.append(int(place.name))
    return found


def _start(spark: Path, folder: Path, name: str, role: str, *arguments: str) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "SPARK_HOME": str(spark),
        "SPARK_CONF_DIR": str(folder / "conf"),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_DAEMON_MEMORY": "256m",
        "SPARK_DAEMON_JAVA_OPTS": "-Dspark.log.level=INFO -Dspark.ui.enabled=false",
    }
    log = (folder / f"{name}.log").open("wb")
    with log:
        return subprocess.Popen(
            [str(spark / "bin" / "spark-class"), f"org.apache.spark.deploy.{role}", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _wait_for(log: Path, words: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        text = log.read_text(encoding="utf-8", errors="replace")
        if words in text:
            return
        if process.poll() is not None:
            break
        time.sleep(0.2)
    tail = re.sub(r"\n\tat .*", "", log.read_text(encoding="utf-8", errors="replace"))[-2000:]
    raise AssertionError(f"{log.stem} did not start: {tail}")
