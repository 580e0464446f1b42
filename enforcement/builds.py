"""A build: an Exchange version number, ordered, and the words for how it is known."""

import re
from enum import StrEnum
from typing import Final, NamedTuple

_BUILD = re.compile(r"\d{1,5}(?:\.\d{1,5}){3}", re.ASCII)
_LARGEST_PART: Final = 65535  # a Windows file version has four parts of 16 bits
_FIRST_CLOUD_MINOR: Final = 20  # 15.20 is Exchange Online, 15.21 the same in China


class Build(NamedTuple):
    """An Exchange version number; builds are ordered part by part.

    >>> Build.parse("15.01.2507.035") == Build.parse("15.1.2507.35") < Build.parse("15.1.2507.61")
    True
    >>> Build.parse("15.2")
    Traceback (most recent call last):
    ValueError: not a build number: '15.2' (expected e.g. '15.2.1544.36')
    """

    major: int
    minor: int
    number: int
    revision: int

    @classmethod
    def parse(cls, text: str) -> "Build":
        """Read a build, plain or padded with zeros."""
        if _BUILD.fullmatch(text):
            parts = [int(part) for part in text.split(".")]
            if max(parts) <= _LARGEST_PART:
                return cls(*parts)
        shown = text if len(text) <= 40 else text[:40] + "…"
        raise ValueError(f"not a build number: {shown!r} (expected e.g. '15.2.1544.36')")

    @property
    def padded(self) -> str:
        """The long form, whose text order is the order of the catalogue's builds.

        >>> Build.parse("8.3.298.1").padded
        '08.03.0298.001'
        """
        return f"{self.major:02}.{self.minor:02}.{self.number:04}.{self.revision:03}"

    @property
    def line(self) -> tuple[int, ...]:
        """The numbers that builds of one cumulative update or service pack share."""
        return self[:3] if self.major >= 15 else self[:2]

    @property
    def is_cloud(self) -> bool:
        """Whether this is Exchange Online itself.

        >>> Build.parse("15.20.7228.32").is_cloud, Build.parse("15.2.1544.36").is_cloud
        (True, False)
        """
        return self.major == 15 and self.minor >= _FIRST_CLOUD_MINOR

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.number}.{self.revision}"


class Evidence(StrEnum):
    """How a build is known."""

    EXACT = "exact"  # a build of the catalogue
    ROUNDED_UP = "rounded up"  # between two builds of its line: at most the upper one
    NEWER = "newer"  # above every build of its line
    UNKNOWN = "unknown"  # no such line, or no build given
    CLOUD = "cloud"  # Exchange Online itself


class Hop(StrEnum):
    """The kind of Received line in which an Exchange server names its build."""

    SMTP = "smtp"  # states the transport binary: updates that leave it alone do not show
    MAPI = "mapi"  # states the package: every update shows
