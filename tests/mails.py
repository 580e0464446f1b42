"""Mails as the tests write them, and how they read them back."""

from pathlib import Path

import polars as pl

from enforcement.importers.batch import Batch
from enforcement.importers.mail import read_mail
from enforcement.importers.mail_files import find_sources

SEPARATOR = "From sender@a.example Thu Jan  1 00:00:00 1970\n"
HOP = (
    "Received: from a.example (192.0.2.1) by {} (192.0.2.2) with Microsoft SMTP Server (TLS) id 15.1.2507.39;"
    " Tue, 8 Apr 2025 08:54:43 +0000\n"
)
MAPI = (
    "Received: from a.example (192.0.2.1) by b.example (192.0.2.2) with mapi id 15.01.2507.039; 8 Apr 2025 08:54 GMT\n"
)


def mail(server: str, body: str = "text\n") -> str:
    """Write a mail that this server handed over."""
    return HOP.format(server) + f"Subject: x\n\n{body}"


def read(path: Path, *own: str) -> Batch:
    """Read the one source that a path names."""
    (source,) = find_sources(path)
    return read_mail(source, own)


def servers(batch: Batch) -> list[str]:
    return batch.handovers["server"].to_list()


def box(tmp_path: Path, text: str | bytes, name: str = "list.mbox") -> Path:
    """Write an mbox."""
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def sightings_of(batch: Batch) -> pl.DataFrame:
    """What a batch of mail says of sightings; only tables leave them to the store."""
    assert batch.sightings is not None
    return batch.sightings
