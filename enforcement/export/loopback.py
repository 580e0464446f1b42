"""Programs on loopback: a clock of their own, a port, a start that is waited for, an end."""

import contextlib
import socket
import subprocess
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final

WAIT_SECONDS: Final = 30
_FAKETIME: Final = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
)


class Clock:
    """A clock that stands where it is put, for programs that are started with its `environment`."""

    def __init__(self, folder: Path) -> None:
        library = next((path for path in _FAKETIME if Path(path).exists()), None)
        if library is None:
            raise LookupError("no libfaketime here (expected the package faketime: the target needs a clock to set)")
        self._file = folder / "clock"
        self.environment = {
            "LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": str(self._file), "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "TZ": "UTC",
        }  # fmt: skip

    def put(self, at: datetime) -> None:
        """Put it to a UTC time."""
        made = self._file.with_suffix(".new")
        made.write_text(f"{at:%Y-%m-%d %H:%M:%S}\n")
        made.rename(self._file)


def free_port() -> int:
    """Find a port of loopback that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def answers(port: int) -> bool:
    """Tell whether a mail server greets its clients on a port of loopback."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as asked:
        return asked.recv(3) == b"220"
    return False


def wait_for(happens: Callable[[], bool], who: str, process: subprocess.Popen[bytes] | None = None) -> None:
    """Wait until something happens, or say in a RuntimeError that it does not, or that the process has ended."""
    until = time.monotonic() + WAIT_SECONDS
    while not happens():
        if process is not None and process.poll() is not None:
            said = process.communicate()[1] or b""
            raise RuntimeError(f"{who} does not start: {said.decode(errors='replace')[-500:]}")
        if time.monotonic() > until:
            raise RuntimeError(f"{who} has not started within {WAIT_SECONDS} s")
        time.sleep(0.02)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process, if it must be by force."""
    process.terminate()
    try:
        process.communicate(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
