"""How much memory a program has, has had at most, and could get; and of one that may die, what it had last."""

import threading
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_EVERY_S: Final = 0.2


def memory(process: int | None = None) -> dict[str, int]:
    """Tell how much memory this program or another has, its peak, and what is free, in bytes, if the system tells."""
    told: dict[str, int] = {}
    sources = {
        f"/proc/{process or 'self'}/status": {"VmRSS": "has", "VmHWM": "peak"},
        "/proc/meminfo": {"MemAvailable": "free"},
    }
    for source, names in sources.items():
        try:
            lines = Path(source).read_text(encoding="ascii").splitlines()
        except OSError:
            continue
        values = {line.partition(":")[0]: line.split()[1] for line in lines if line.partition(":")[0] in names}
        told |= {names[key]: 1024 * int(value) for key, value in values.items()}
    return told


class Watch:
    """Look at a program's memory again and again while something goes on: of one that is gone nobody can tell it."""

    def __init__(self, process: int) -> None:
        self.last = memory(process)
        self._process = process
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._is_over.set()
        self._thread.join()
        self._take()

    def _look(self) -> None:
        while not self._is_over.wait(_EVERY_S):
            self._take()

    def _take(self) -> None:
        now = memory(self._process)
        if "peak" in now:  # it lives
            self.last = now
