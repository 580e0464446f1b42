"""Messages a second through a real Exim: with the export, and with an ACL that accepts all; and what a look-up costs.

Asked for: at least 0.7 of the other; a decision that costs the same among 50,000 rows as among 500. Needs Exim,
libfaketime, and root. Postfix and its milter: bench_milter.py.
"""

import contextlib
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
from exports import EX2013, make_world
from test_export_exim import vectors_of

from enforcement.export.exim import exim_files
from enforcement.export.exim_server import EximServer, Session, evaluated, exim_server
from enforcement.export.vectors import line

LEAST = 0.7
N_MESSAGES, N_ROUNDS = 200, 5
SERVER = "mx8.example"  # in a stage of no minutes: its mail is accepted, and both ways do the same work after that
AT = datetime(2024, 4, 1, 13, 30)


def per_second(server: EximServer) -> float:
    """Send messages in one session."""
    with contextlib.closing(Session(server.port, "203.0.113.9")) as session:
        start = time.perf_counter()
        for _ in range(N_MESSAGES):
            code, text = session.send([line(SERVER, EX2013, AT)])
            assert code == 250, text
        return N_MESSAGES / (time.perf_counter() - start)


def written(out: Path, files: dict[str, bytes]) -> None:
    """Write files into a folder."""
    for path, content in files.items():
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        (out / path).write_bytes(content)


def main() -> int:
    """Measure, print, and say by the exit code whether what was asked for holds."""
    with tempfile.TemporaryDirectory() as name:
        world = make_world(Path(name) / "world")
        today = datetime.now(tz=UTC).date()
        spans = world.known.calendar.with_columns(block=pl.lit(0), throttle=pl.lit(0))
        known = replace(
            world.known, as_of=today - timedelta(days=2), not_after=today + timedelta(days=2), calendar=spans
        )
        plain, full = Path(name) / "plain", Path(name) / "full"
        written(full, exim_files(known))
        written(plain, exim_files(known))
        config = plain / "exim" / "example.conf"
        config.write_text(config.read_text().replace("require acl = enforcement_data", "accept"))
        rates: dict[str, list[float]] = {"with the export": [], "plain accept": []}
        with exim_server(full, real_clock=True) as ours, exim_server(plain, real_clock=True) as theirs:
            for _ in range(N_ROUNDS):
                rates["with the export"].append(per_second(ours))
                rates["plain accept"].append(per_second(theirs))
            assert ours.log.read_text().count(" reason=enforced ") == N_MESSAGES * N_ROUNDS
        for what, each in rates.items():
            print(f"{what:<20}{statistics.median(each):>10,.0f} messages/s in a session")
        ratio = statistics.median(rates["with the export"]) / statistics.median(rates["plain accept"])
        print(f"{'ratio':<20}{ratio:>10.2f}   (asked: {LEAST})")
        for n_servers in (500, 50_000):
            row = world.known.servers.filter(server="mx8.example")
            span = world.known.calendar.filter(server="mx8.example")
            names = pl.DataFrame({"server": [f"mx{n}.fleet.example" for n in range(n_servers)]})
            known = replace(
                world.known,
                servers=names.join(row.drop("server"), how="cross").select(row.columns),
                calendar=names.join(span.drop("server"), how="cross").select(span.columns),
            )
            start = time.perf_counter()
            files = exim_files(known)
            wrote = time.perf_counter() - start
            out = Path(name) / str(n_servers)
            written(out, files)
            asked = vectors_of([[line(f"mx{n * 7 % n_servers}.fleet.example", EX2013, AT)] for n in range(10_000)])
            with evaluated(out) as exim:
                start = time.perf_counter()
                exim.decisions(asked)
                cost = (time.perf_counter() - start) / len(asked)
            print(f"{n_servers:>7,} servers: {cost * 1e6:>6.0f} us each; {len(files)} files written in {wrote:.2f} s")
    return int(ratio < LEAST)


if __name__ == "__main__":
    sys.exit(main())
