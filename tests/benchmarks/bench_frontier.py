"""How fast the expected course is: a redraw for a slider, one candidate of a search, and a search as a command."""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from enforcement import shipped
from enforcement.expected import course, expected_many, prepare, schedules
from enforcement.expected_fleet import expected_fleet
from enforcement.intake import make_sample
from enforcement.sample import Extent
from enforcement.standing import standings
from enforcement.standpoint import standpoint
from enforcement.workbench import Setting, opened_history

REDRAW_MS = 50  # asked for: 50,000 servers, stages or minutes changed
SEARCH_SECONDS = 30  # asked for: 10,000 candidates on 10 million messages, the whole command


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=lambda text: int(text.replace("_", "")), default=10_000_000)
    parser.add_argument("--servers", type=lambda text: int(text.replace("_", "")), default=50_000)
    parser.add_argument("--store", type=Path, help="an existing store instead of a sample made for this")
    parser.add_argument("--rounds", type=int, default=21)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = asked.store or Path(folder) / "sample.duckdb"
        if asked.store is None:
            make_sample(store, Extent(messages=asked.messages, servers=asked.servers, days=180, seed=1))
        redraw = _redraw(store, asked.rounds)
        started = time.perf_counter()
        space = shipped.DATA / "spaces" / "example.toml"
        command = [sys.executable, "-m", "enforcement", "frontier", str(space), "--store", str(store)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        search = time.perf_counter() - started
    print(f"a redraw, day by day: {redraw:.1f} ms (asked for: {REDRAW_MS})")
    print(f"enforcement frontier, 10,000 candidates: {search:.1f} s (asked for: {SEARCH_SECONDS})")
    return int(redraw > REDRAW_MS or search > SEARCH_SECONDS)


def _redraw(store: Path, rounds: int) -> float:
    setting, policy = Setting(store=store), shipped.load_policy("ninety-days")
    background, assumptions = setting.background(), shipped.load_assumptions()
    with opened_history(setting) as history:
        proven = standings(history.builds, background.catalogue, policy)
        as_of = setting.period(history).to_on
        at = standpoint(history, as_of, silent_after_days=policy.silent_after_days, known=proven)
        daily = expected_fleet(at, policy, background, n_days=365)
        weekly = expected_fleet(at, policy, background, n_days=365, step=7)
    several = schedules([shipped.load_policy(name) for name in shipped.shipped_policies()], background.senders)
    prepared = prepare(daily, assumptions)
    took = []
    for turn in range(rounds):
        started = time.perf_counter()
        course(prepared, several[turn % len(several)])
        took.append(1000 * (time.perf_counter() - started))
    started = time.perf_counter()
    expected_many(prepare(weekly, assumptions), several * 50)
    each = 1000 * (time.perf_counter() - started) / (50 * len(several))
    print(f"{at.n_servers:,} servers in {len(daily.spell):,} groups; week by week {each:.2f} ms a schedule")
    return statistics.median(took)


if __name__ == "__main__":
    sys.exit(main())
