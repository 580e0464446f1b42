"""Messages a second through a real Postfix: with the milter of an export, and with one that accepts everything.

Asked for: at least 0.7 of the other. Needs Postfix, the milter library, libfaketime, and root.
"""

import argparse
import smtplib
import statistics
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from worlds import store_of

from enforcement.export.postfix_server import PostfixServer, postfix_server, send
from enforcement.export.target import Peer
from enforcement.exporting import Order, export_policy
from enforcement.workbench import Setting

LEAST = 0.7
ACCEPTS_ALL = """
import sys, Milter
class All(Milter.Base):
    def header(self, name, value): return Milter.CONTINUE
    def eoh(self): return Milter.ACCEPT
Milter.factory = All
Milter.set_flags(0)
Milter.runmilter("all", sys.argv[1], 300)
"""
SERVER, BUILD = "mail.contoso.example", "15.0.1497.48"
LINE = (
    f"Received: from a.{SERVER} (192.0.2.1) by {SERVER} (192.0.2.2) with Microsoft SMTP Server id {BUILD};"
    " Tue, 8 Apr 2025 13:54:44 +0000"
)


def per_second(server: PostfixServer, n: int) -> float:
    """Send messages in one session."""
    server.clock.put(datetime(2024, 4, 3, 7))
    with smtplib.SMTP("127.0.0.1", server.port, timeout=30) as client:
        client.ehlo("client.test")
        began = time.perf_counter()
        for _ in range(n):
            send(client, Peer([LINE]))
        return n / (time.perf_counter() - began)


def main() -> int:
    """Measure in turns, and print a table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--messages", type=int, default=500)
    options.add_argument("--rounds", type=int, default=5)
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # A server in its stage of report: everything is looked up, and the mail is accepted.
        store = store_of(folder / "s.duckdb", [("2024-03-21T10:00", SERVER, BUILD)])
        export_policy("ninety-days", Setting(store=store), Order(out=folder / "out"))
        (folder / "all.py").write_text(ACCEPTS_ALL)
        other = (sys.executable, str(folder / "all.py"))
        with postfix_server(folder / "out") as ours, postfix_server(folder / "out", milter=other) as theirs:
            pairs = [
                (per_second(ours, asked.messages), per_second(theirs, asked.messages)) for _ in range(asked.rounds)
            ]
    ratio = statistics.median(mine / other for mine, other in pairs)
    print(f"{'milter of an export':<28}{statistics.median(mine for mine, _ in pairs):>8.0f} messages/s")
    print(f"{'milter that accepts all':<28}{statistics.median(other for _, other in pairs):>8.0f} messages/s")
    print(f"{'ratio, median of the rounds':<28}{ratio:>8.2f} (asked: {LEAST})")
    return 0 if ratio >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
