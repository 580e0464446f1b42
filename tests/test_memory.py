"""What memory a program has: told where the system tells it, and of one that is gone what it had last."""

import subprocess
import sys
from pathlib import Path

import pytest

from enforcement.memory import Watch, memory

HOLDS = "held = b'x' * 300_000_000; print('held', flush=True); input()"


def test_memory_is_told_where_the_system_tells_it() -> None:
    """What the program has is no more than it has had at most."""
    told = memory()
    if Path("/proc/self/status").exists():
        assert 0 < told["has"] <= told["peak"]
        assert told["free"] > 0
    assert all(isinstance(value, int) for value in told.values())


def test_a_program_that_is_gone_had_what_it_had_last() -> None:
    """Killed under way: its peak stays known, though the system has forgotten the program."""
    if not Path("/proc/self/status").exists():
        pytest.skip("the system does not tell")
    with subprocess.Popen([sys.executable, "-c", HOLDS], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        watch = Watch(process.pid)
        with watch:
            assert process.stdout.readline() == b"held\n"
            held = memory(process.pid)["peak"]
            while watch.last["peak"] < held:
                pass
            process.kill()
            process.wait()
    assert "peak" not in memory(process.pid)
    assert watch.last["peak"] >= held > 300_000_000
