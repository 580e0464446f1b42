"""A Spark session for one command: it starts or says in one line why not, is quiet, and leaves no process behind."""

import logging
import os
import re
import shutil
import signal
import socket
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import TimeoutExpired
from typing import IO, Any, Final
from urllib.parse import urlsplit

from enforcement.names import printable, shown

_MASTERS: Final = r"local(\[.*\])?|local-cluster\[.*\]|spark://[^/\s]+|yarn|k8s://\S+"
_YARN_FOLDERS: Final = ("HADOOP_CONF_DIR", "YARN_CONF_DIR")
_NO_YARN: Final = f"yarn: its settings are missing (set {' or '.join(_YARN_FOLDERS)}: the folder with yarn-site.xml)"
_CONNECT_SECONDS: Final = 5
_IDLE_SECONDS: Final = 45  # how long work may wait while no worker serves
_STOP_SECONDS: Final = 20
_POLL_SECONDS: Final = 1.0
_LOG_TAIL: Final = 20_000  # octets

# What a command needs whatever the cluster; all else (memory, credentials, shuffles) is spark-defaults.conf's.
_SETTINGS: Final = {
    "spark.ui.enabled": "false",
    "spark.log.level": "ERROR",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.caseSensitive": "true",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",
    "spark.sql.parquet.int96RebaseModeInRead": "CORRECTED",
}
_LOOPBACK: Final = {"spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1"}


class SparkError(ValueError):
    """What went wrong with Spark, in one line."""


class Session:
    """A running session: `spark` is its SparkSession."""

    def __init__(self, spark: Any, master: str) -> None:
        self.spark = spark
        self.master = master
        self._ended = threading.Event()
        self._starved = False
        self._watch = threading.Thread(target=self._watch_workers, daemon=True)
        if not master.startswith("local"):
            self._watch.start()

    def told(self, problem: BaseException) -> str:
        """Say in one line what went wrong."""
        if self._starved:
            return (
                f"{self.master}: no worker took up work for {_IDLE_SECONDS} s"
                " (is one alive, and has it the cores and memory that spark-defaults.conf asks for?)"
            )
        told = reason(problem)
        is_cut = isinstance(problem, ConnectionError) or type(problem).__name__ == "Py4JNetworkError"
        if is_cut or "stopped SparkContext" in told or "SparkContext was shut down" in told:
            return f"{self.master}: the connection to Spark was lost ({told})"
        if "FileSystem not found" in told or "No FileSystem for scheme" in told:
            return f"{told} (name its package in spark-defaults.conf, e.g. spark.jars.packages for hadoop-aws)"
        return told

    def end(self) -> None:
        """Stop watching."""
        self._ended.set()

    def _watch_workers(self) -> None:
        """Cancel work that waits for workers that do not come: Spark itself would wait for ever."""
        context = self.spark.sparkContext
        idle = 0.0
        with suppress(Exception):  # the session has ended: so does the watch
            while not self._ended.wait(_POLL_SECONDS):
                scala = context._jsc.sc()  # noqa: SLF001 - Python has no other way to ask for executors
                has_workers = scala.getExecutorMemoryStatus().size() > 1  # one of them is the driver
                is_waiting = bool(context.statusTracker().getActiveJobsIds()) and not has_workers
                idle = idle + _POLL_SECONDS if is_waiting else 0.0
                if idle >= _IDLE_SECONDS:
                    self._starved = True
                    context.cancelAllJobs()
                    idle = 0.0


@contextmanager
def session(master: str) -> Iterator[Session]:
    """Start Spark on a master, and end it whatever happens; what keeps it from starting is a SparkError."""
    _expect_master(master)
    _expect_java()
    with _quiet(), tempfile.TemporaryFile(prefix="enforcement-spark-") as log:
        gateway = _gateway(master, log)
        try:
            opened = Session(_started(master, gateway, log), master)
            try:
                yield opened
            finally:
                opened.end()
        finally:
            _ended(gateway)


def reason(problem: BaseException) -> str:
    r"""Give the innermost cause of what Spark reports, in one line.

    >>> reason(ValueError("[PATH_NOT_FOUND] Path does not exist: s3a://b/x. SQLSTATE: 42K03\n at org.apache…"))
    'Path does not exist: s3a://b/x'
    """
    told = str(problem)
    with suppress(Exception):  # the JVM may be gone: then the words of the problem must do
        cause = problem.java_exception  # type: ignore[attr-defined]  # py4j and PySpark carry it in two ways
        while cause.getCause() is not None:
            cause = cause.getCause()
        told = str(cause.toString())
    lines = [line.strip() for line in told.splitlines() if line.strip()] or [type(problem).__name__]
    causes = re.findall(r"^Caused by: (.*)$", told, flags=re.MULTILINE)
    line = str(causes[-1]) if causes else lines[0]
    if "stage failure" in line:
        line = line.partition("): ")[2] or line
    line = re.sub(r"\s*SQLSTATE: \w+", "", re.sub(r"\[[A-Z0-9_.]+\] ", "", line))
    line = re.sub(r"^(?:[a-z0-9_]+\.)+(\w+): ", "", line)
    return printable(line.strip().rstrip("."))[:300]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep py4j from logging traces, which it does when Ctrl-C or the end of the JVM cuts a call short."""
    root, own = logging.getLogger(), logging.getLogger("py4j")
    level = own.level

    def is_not_py4j(record: logging.LogRecord) -> bool:
        return "py4j" not in record.pathname

    root.addFilter(is_not_py4j)
    own.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        root.removeFilter(is_not_py4j)
        own.setLevel(level)


def _expect_master(master: str) -> None:
    """Hold a master to the kinds there are, and one of the standalone kind to answer at all."""
    if not re.fullmatch(_MASTERS, master):
        raise SparkError(
            f"not a Spark master: {shown(master)} (expected local[*], spark://HOST:PORT, yarn or k8s://HOST:PORT)"
        )
    folders = [os.environ[name] for name in _YARN_FOLDERS if name in os.environ]
    if master == "yarn" and folders and not any(folders):
        raise SparkError(_NO_YARN)  # Spark would look for it on this machine, for minutes
    if not master.startswith("spark://"):
        return
    found = []
    for address in master.removeprefix("spark://").split(","):
        try:
            parts = urlsplit(f"//{address}")
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if host is None or port is None:
            raise SparkError(f"not a Spark master: {shown(master)} (expected spark://HOST:PORT[,HOST:PORT…])")
        try:
            socket.create_connection((host, port), timeout=_CONNECT_SECONDS).close()
        except OSError as problem:
            found.append(f"{address}: {problem.strerror or problem}")
        else:
            return
    raise SparkError(f"{master}: no Spark master answers there ({'; '.join(found)})")


def _expect_java() -> None:
    home = os.environ.get("JAVA_HOME")
    if home and not shutil.which(str(Path(home) / "bin" / "java")):
        raise SparkError(f"no Java in JAVA_HOME={home} (Spark needs Java 17 or newer)")
    if not home and not shutil.which("java"):
        raise SparkError(
            "no Java found: Spark needs Java 17 or newer (Debian: apt install default-jre-headless; or set JAVA_HOME)"
        )


def _gateway(master: str, log: IO[bytes]) -> Any:
    """Start the JVM, whose words go to a log: they are not for the user."""
    # Where pandas is installed too, PySpark warns of its version; nothing here goes through pandas.
    warnings.filterwarnings("ignore", message="PySpark does not yet fully support pandas")
    try:
        from pyspark import SparkConf, SparkContext
        from pyspark.errors import PySparkException
        from pyspark.java_gateway import launch_gateway
    except ImportError as problem:
        raise SparkError(
            f"PySpark is not installed ({problem.name or problem}): `make spark`, or pip install 'pyspark>=4.0'"
        ) from None
    if SparkContext._active_spark_context is not None:  # noqa: SLF001 - there is no public way to ask
        raise SparkError("this process runs a Spark session of its own: stop it first (spark.stop())")
    try:
        return launch_gateway(_conf(SparkConf(loadDefaults=False), master), {"stdout": log, "stderr": log})
    except (PySparkException, OSError) as problem:
        raise SparkError(_java_trouble(log, problem)) from None


def _conf(conf: Any, master: str) -> Any:
    conf = conf.setMaster(master).setAppName("enforcement")
    is_here = master.startswith("local") or urlsplit(master).hostname in ("127.0.0.1", "localhost")
    for name, value in (_SETTINGS | (_LOOPBACK if is_here else {})).items():
        conf = conf.set(name, value)
    if master.startswith("local"):
        conf = conf.set("spark.sql.shuffle.partitions", str(2 * (os.cpu_count() or 4)))
    return conf


def _java_trouble(log: IO[bytes], problem: BaseException) -> str:
    told = _tail(log)
    if "UnsupportedClassVersionError" in told or "Unrecognized option" in told or "module not found" in told.lower():
        return "this Java is too old for Spark (expected Java 17 or newer; set JAVA_HOME)"
    if "HADOOP_CONF_DIR" in told:
        return _NO_YARN
    said = [line for line in told.splitlines() if re.search(r"error|exception|not found|invalid", line, re.IGNORECASE)]
    return f"Spark's Java did not start ({printable((said or [str(problem)])[0].strip())[:200]})"


def _tail(log: IO[bytes]) -> str:
    log.seek(0, os.SEEK_END)
    log.seek(max(0, log.tell() - _LOG_TAIL))
    return log.read().decode("utf-8", errors="replace")


def _started(master: str, gateway: Any, log: IO[bytes]) -> Any:
    """Make the session, and undo what PySpark does to Ctrl-C: it would outlive the session."""
    from py4j.protocol import Py4JError
    from pyspark import SparkConf, SparkContext
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    before = signal.getsignal(signal.SIGINT)
    try:
        context = SparkContext(conf=_conf(SparkConf(loadDefaults=False), master), gateway=gateway)
        return SparkSession(context)
    except (Py4JError, PySparkException, OSError) as problem:
        tail = _tail(log)
        if "stopped SparkContext" in str(problem) or "unresponsive" in tail or "Failed to connect" in tail:
            raise SparkError(
                f"{master}: no Spark master took us in (is it one, and of this version of Spark?)"
            ) from None
        raise SparkError(f"{master}: {reason(problem)}") from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


def _ended(gateway: Any) -> None:
    """End the session and its JVM; one that does not end by itself is killed."""
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    process = gateway.proc
    killer = threading.Timer(_STOP_SECONDS, process.kill)
    killer.start()
    try:
        context = SparkContext._active_spark_context  # noqa: SLF001 - there is no public way to ask
        with suppress(Exception):
            if context is not None:
                context.stop()
        with suppress(Exception):
            gateway.shutdown()
        with suppress(Exception):
            process.stdin.close()  # at which the JVM exits
        with suppress(TimeoutExpired):
            process.wait(_STOP_SECONDS)
    finally:
        killer.cancel()
        if process.poll() is None:
            process.kill()
            process.wait()
        # The next session starts a JVM of its own.
        SparkContext._gateway = SparkContext._jvm = None  # noqa: SLF001 - PySpark never lets go of a JVM itself
        SparkContext._active_spark_context = None  # noqa: SLF001 - the same
        SparkSession._instantiatedSession = None  # noqa: SLF001 - the same
