"""How fast mail is imported, beside scripts that use `mailbox` and `email` and give the same rows.

The real sample once, and ten times in one file; each run in a process of its own, in random order. Ours reads the file
twice (content, mails) and writes the store; the scripts only make rows in memory. One takes messages as `mailbox` gives
them, the other is tuned: it has `email` read the bytes of the headers alone. Fails when ours is not five times as fast
as the first on the file of ten, by wall and by CPU seconds.
"""

import argparse
import gzip
import hashlib
import json
import mailbox
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC
from email.message import Message
from email.parser import BytesHeaderParser
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

SAMPLE = "mail-sample.mbox.gz"
AT_LEAST = 5

HOP = re.compile(
    r"\bby\s+(\S+)\s+(?:\([^)]*\)\s+)?with\s+(Microsoft\s+SMTP\s+Server|mapi)\s+(?:\([^)]*\)\s+)?id\s+([\d.]+)[^;]*;(.*)",
    re.DOTALL,
)
Rows = tuple[list[tuple[str, ...]], Counter[tuple[str, ...]], int]  # hand-overs, sightings, rejects


def ours(path: Path, scratch: Path) -> Callable[[], Rows]:
    """Import as the command does: name the content, read the mails, write the store."""
    # Only the process that measures this one needs what it imports.
    from enforcement.importers.mail import read_mail  # noqa: PLC0415 - see above
    from enforcement.importers.mail_files import find_sources  # noqa: PLC0415 - see above
    from enforcement.store import create_store  # noqa: PLC0415 - see above

    with create_store(scratch / "traffic.duckdb") as store:
        (source,) = find_sources(path)
        sha256 = source.sha256()
        batch = read_mail(source)
        record = store.add(source=str(path), sha256=sha256, options={}, batches=[batch])
        assert (record.rows_read, record.already_imported) == (batch.rows_read, False)

    def rows() -> Rows:
        handovers = batch.handovers.select("sent_at", "server", "build", "route").rows()
        assert batch.sightings is not None  # only tables leave them to the store
        sightings = batch.sightings.drop("tenant").rows()
        return (
            [tuple(str(value) for value in row) for row in handovers],
            Counter({tuple(str(value) for value in row[:-1]): row[-1] for row in sightings}),
            batch.rejects.height,
        )

    return rows


def with_mailbox_and_email(path: Path, scratch: Path) -> Callable[[], Rows]:
    """Read the same rows from the messages that `mailbox` gives."""
    del scratch
    return _rows_of(iter(mailbox.mbox(path, create=False)))


def with_headers_alone(path: Path, scratch: Path) -> Callable[[], Rows]:
    """Read the same rows from messages of which only the headers are read."""
    del scratch
    box = mailbox.mbox(path, create=False)
    parse = BytesHeaderParser().parsebytes
    return _rows_of(parse(box.get_bytes(key)) for key in box.iterkeys())


def _rows_of(messages: Iterator[Message]) -> Callable[[], Rows]:
    """Do what a good script would: one pattern, quick tests before it, dates only of the hops that count."""
    handovers, sightings, n_rejected = [], Counter[Any](), 0
    for message in messages:
        found, is_through_cloud = None, False
        for position, line in enumerate(message.get_all("Received", [])):
            if "Microsoft" not in line and "mapi" not in line:
                continue
            hop = HOP.search(line)
            if hop is None:
                continue
            by, kind, build, date = hop.groups()
            numbers = tuple(map(int, build.split(".")))
            if numbers[0] == 15 and numbers[1] >= 20:
                is_through_cloud = True
                continue
            sent_at = parsedate_to_datetime(date.strip()).astimezone(UTC).replace(tzinfo=None)
            server = by.lower().removesuffix(".")
            sightings[server, numbers, kind == "mapi", sent_at.date()] += 1
            if found is None and kind != "mapi":
                route = "direct" if position == 0 else "through cloud" if is_through_cloud else "relayed"
                found = (sent_at, server, numbers, route)
        if found:
            handovers.append(found)
        else:
            n_rejected += 1

    def rows() -> Rows:
        def text(numbers: tuple[int, ...]) -> str:
            return ".".join(map(str, numbers))

        return (
            [(str(sent_at), server, text(numbers), route) for sent_at, server, numbers, route in handovers],
            Counter(
                {
                    (server, text(numbers), "mapi" if is_mapi else "smtp", str(day)): n
                    for (server, numbers, is_mapi, day), n in sightings.items()
                }
            ),
            n_rejected,
        )

    return rows


OURS, PLAIN, TUNED = "enforcement", "mailbox + email", "the same, tuned"
VARIANTS = {OURS: ours, PLAIN: with_mailbox_and_email, TUNED: with_headers_alone}


def measure(variant: str, path: Path) -> dict[str, Any]:
    """Run one variant in this process; its imports and the comparison of rows are not counted."""
    if variant == OURS:
        import enforcement.importers.mail  # noqa: PLC0415 - see above
        import enforcement.store  # noqa: F401, PLC0415 - loaded before the clock starts
    with tempfile.TemporaryDirectory() as scratch:
        wall, cpu = time.perf_counter(), time.process_time()
        rows = VARIANTS[variant](path, Path(scratch))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    handovers, sightings, n_rejected = rows()
    digest = hashlib.sha256(repr((handovers, sorted(sightings.items()), n_rejected)).encode()).hexdigest()
    return {"wall": wall, "cpu": cpu, "mails": len(handovers) + n_rejected, "rows": digest}


def compare(path: Path, rounds: int) -> float:
    """Print how long each variant takes, and give how many times as fast as the plain script ours is, at least."""
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in VARIANTS}
    for _ in range(rounds):
        for name in random.sample(list(VARIANTS), k=len(VARIANTS)):
            command = [sys.executable, __file__, "--variant", name, "--path", str(path)]
            results[name].append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
    digests = {result["rows"] for found in results.values() for result in found}
    assert len(digests) == 1, "the variants give different rows"
    wall, cpu = (
        {name: statistics.median(result[what] for result in found) for name, found in results.items()}
        for what in ("wall", "cpu")
    )
    n_mails, n_bytes = results[OURS][0]["mails"], path.stat().st_size
    print(f"{n_bytes / 1e6:,.0f} MB, {n_mails:,} mails, medians of {rounds} rounds; all rows are equal")
    print(f"  {'':16}{'wall s':>8}{'CPU s':>8}{'mails/s':>10}{'MB/s':>7}  ours is, by wall and CPU")
    for name in VARIANTS:
        times = f"{wall[name]:8.2f}{cpu[name]:8.2f}{n_mails / wall[name]:10,.0f}{n_bytes / 1e6 / wall[name]:7.0f}"
        ratios = "" if name == OURS else f"  {wall[name] / wall[OURS]:.1f} × and {cpu[name] / cpu[OURS]:.1f} × as fast"
        print(f"  {name:16}{times}{ratios}")
    print()
    return min(wall[PLAIN] / wall[OURS], cpu[PLAIN] / cpu[OURS])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--variant", choices=VARIANTS)
    parser.add_argument("--path", type=Path)
    arguments = parser.parse_args()
    if arguments.variant:
        print(json.dumps(measure(arguments.variant, arguments.path)))
        return 0
    folder = os.environ.get("ENFORCEMENT_REAL_DATA")
    if not folder:
        print("ENFORCEMENT_REAL_DATA names no folder with the real mail samples: nothing to measure")
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        once, ten_times = Path(scratch) / "once.mbox", Path(scratch) / "ten.mbox"
        sample = gzip.decompress((Path(folder) / SAMPLE).read_bytes())
        once.write_bytes(sample)
        with ten_times.open("wb") as file:
            for _ in range(10):
                file.write(sample)
        compare(once, arguments.rounds)
        ratio = compare(ten_times, arguments.rounds)
    return 0 if ratio >= AT_LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
