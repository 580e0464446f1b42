"""How fast mail is imported, beside a script that uses `mailbox` and `email` and gives the same rows.

The real sample once, and ten times in one file; each measurement in a process of its own, in random order. Ours reads
the file twice (content, mails) and writes the store; the script only makes rows in memory. Fails when ours is not five
times as fast on the file of ten.
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
from collections.abc import Callable
from datetime import UTC
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
    from enforcement.importers.mail import read_mail  # noqa: PLC0415
    from enforcement.importers.mail_files import find_sources  # noqa: PLC0415
    from enforcement.store import create_store  # noqa: PLC0415

    with create_store(scratch / "traffic.duckdb") as store:
        (source,) = find_sources(path)
        sha256 = source.sha256()
        batch = read_mail(source)
        record = store.add(source=str(path), sha256=sha256, options={}, batch=batch)
        assert (record.rows_read, record.already_imported) == (batch.rows_read, False)

    def rows() -> Rows:
        handovers = batch.handovers.select("sent_at", "server", "build", "route").rows()
        sightings = batch.sightings.drop("tenant").rows()
        return (
            [tuple(str(value) for value in row) for row in handovers],
            Counter({tuple(str(value) for value in row[:-1]): row[-1] for row in sightings}),
            batch.rejects.height,
        )

    return rows


def with_mailbox_and_email(path: Path, scratch: Path) -> Callable[[], Rows]:
    """Read the same rows as a good script would: headers only, one pattern, dates only of the hops that count."""
    del scratch
    handovers, sightings, n_rejected = [], Counter[Any](), 0
    parse = BytesHeaderParser().parsebytes
    box = mailbox.mbox(path, create=False)
    for key in box.iterkeys():
        found, is_through_cloud = None, False
        for position, line in enumerate(parse(box.get_bytes(key)).get_all("Received", [])):
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


VARIANTS = {"enforcement": ours, "mailbox + email": with_mailbox_and_email}


def measure(variant: str, path: Path) -> dict[str, Any]:
    """Run one variant in this process; its imports and the comparison of rows are not counted."""
    if variant == "enforcement":
        import enforcement.importers.mail  # noqa: PLC0415
        import enforcement.store  # noqa: F401, PLC0415
    with tempfile.TemporaryDirectory() as scratch:
        wall, cpu = time.perf_counter(), time.process_time()
        rows = VARIANTS[variant](path, Path(scratch))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    handovers, sightings, n_rejected = rows()
    digest = hashlib.sha256(repr((handovers, sorted(sightings.items()), n_rejected)).encode()).hexdigest()
    return {"wall": wall, "cpu": cpu, "mails": len(handovers) + n_rejected, "rows": digest}


def compare(path: Path, rounds: int) -> float:
    """Print how long each variant takes, and give how many times as fast ours is (CPU seconds)."""
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in VARIANTS}
    for _ in range(rounds):
        for name in random.sample(list(VARIANTS), k=len(VARIANTS)):
            command = [sys.executable, __file__, "--variant", name, "--path", str(path)]
            results[name].append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
    digests = {result["rows"] for found in results.values() for result in found}
    assert len(digests) == 1, "the variants give different rows"
    medians = {
        name: {what: statistics.median(result[what] for result in found) for what in ("wall", "cpu", "mails")}
        for name, found in results.items()
    }
    print(
        f"{path.stat().st_size / 1e6:,.0f} MB, {medians['enforcement']['mails']:,.0f} mails, {rounds} rounds, medians"
    )
    print(f"  {'':16}{'wall s':>8}{'CPU s':>8}{'mails/s':>10}{'MB/s':>7}")
    for name, found in medians.items():
        size = path.stat().st_size / 1e6
        print(
            f"  {name:16}{found['wall']:8.2f}{found['cpu']:8.2f}{found['mails'] / found['wall']:10,.0f}"
            f"{size / found['wall']:7.0f}"
        )
    ratios = {what: medians["mailbox + email"][what] / medians["enforcement"][what] for what in ("wall", "cpu")}
    print(
        f"  enforcement is {ratios['wall']:.1f} × as fast ({ratios['cpu']:.1f} × by CPU seconds); all rows are equal\n"
    )
    return ratios["cpu"]


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
