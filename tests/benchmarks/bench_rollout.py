"""How long a rollout takes, and how much memory: 50,000 servers, 1,000 draws, 5 policies, 365 days.

Asked for: 20 s and 3 GB on 2 cores, which is 160 ns of a core for each server, draw and policy; it fails beyond that.
The fleet is a made-up one, unless a store is given; making it and looking at the policies is told apart.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from enforcement import shipped
from enforcement.outlook import outlook
from enforcement.rollout import Trial, rollout
from enforcement.standing import standings
from enforcement.standpoint import standpoint
from enforcement.workbench import Setting, opened_history

POLICIES = ("ninety-days", "gentler", "stricter", "block-only")  # and none
N_SERVERS, N_DRAWS, N_DAYS = 50_000, 1_000, 365
MOST_SECONDS, MOST_GIGABYTES = 20.0, 3.0


def made_up(folder: Path, n_servers: int) -> Path:
    store = folder / "fleet.duckdb"
    command = [sys.executable, "-m", "enforcement", "sample", "--store", str(store), "--servers", str(n_servers),
               "--messages", str(40 * n_servers)]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return store


def measure(store: Path, trial: Trial) -> bool:
    """Measure, print a table, and say whether it is fast and small enough."""
    setting = Setting(store=store)
    known, rules = setting.background(), shipped.load_policy(POLICIES[0])
    began = time.perf_counter()
    with opened_history(setting) as history:
        as_of = history.period().to_on
        proven = standings(history.builds, known.catalogue, rules)
        at = standpoint(history, as_of, silent_after_days=rules.silent_after_days, known=proven)
        looks = [("none", outlook(at, rules, known, n_days=N_DAYS, enforced=False))]
        looks += [(name, outlook(at, shipped.load_policy(name), known, n_days=N_DAYS)) for name in POLICIES]
    looked = time.perf_counter() - began
    wall, cpu = time.perf_counter(), time.process_time()
    found = rollout(at, looks, shipped.load_assumptions(), trial)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    each = found.n_servers * trial.n_draws * len(looks)
    scale = N_SERVERS * N_DRAWS * 5 / each
    print(f"{found.n_servers:,} servers of {found.n_tenants:,} tenants, {trial.n_draws:,} draws, {len(looks)} policies,"
          f" {N_DAYS} days, {trial.threads} threads")  # fmt: skip
    print(f"{'looking at fleet and policies':<42}{looked:>10.1f} s")
    print(f"{'rollout':<42}{wall:>10.1f} s{cpu:>10.1f} s of a core")
    print(f"{'for each server, draw and policy':<42}{1e9 * cpu / each:>10.0f} ns of a core (asked: 160)")
    print(f"{'the whole, at this pace':<42}{wall * scale:>10.1f} s (asked: {MOST_SECONDS:.0f})")
    print(f"{'most memory':<42}{gigabytes:>10.2f} GB (asked: {MOST_GIGABYTES:.0f})")
    return wall * scale <= MOST_SECONDS and gigabytes <= MOST_GIGABYTES


def main() -> int:
    """Measure as the command line says."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--store", type=Path, help="a mail history of one's own, or of the sample")
    options.add_argument("--servers", type=int, default=N_SERVERS)
    options.add_argument("--draws", type=int, default=N_DRAWS)
    options.add_argument("--threads", type=int, default=2)
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = asked.store or made_up(Path(folder), asked.servers)
        return 0 if measure(store, Trial(n_draws=asked.draws, seed=1, threads=asked.threads)) else 1


if __name__ == "__main__":
    sys.exit(main())
