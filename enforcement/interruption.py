"""Ctrl-C, remembered: a library may swallow it, or end with an error of its own."""

import signal
from threading import Event
from types import FrameType
from typing import Final

_ASKED: Final = Event()


def watch() -> None:
    """Remember from now on that the user has asked this program to stop."""
    signal.signal(signal.SIGINT, _interrupt)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    _ASKED.set()
    raise KeyboardInterrupt


def was_asked() -> bool:
    """Tell whether the user has asked this program to stop."""
    return _ASKED.is_set()


def check() -> None:
    """Stop here if that was asked for; what is called now and then does not go on for long."""
    if was_asked():
        raise KeyboardInterrupt
