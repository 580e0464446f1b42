"""A small world with an export of it, and what the model says of any case in it."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from worlds import store_of

from enforcement import shipped
from enforcement.export.conformance import Answer, Vector
from enforcement.export.tables import Edition, Tables, read_identities, tables
from enforcement.export.target import Reason
from enforcement.export.vectors import Case, Oracle, line
from enforcement.exporting import Order, export_policy
from enforcement.store import open_store
from enforcement.workbench import Setting, replay_policies

EX2010, EX2013, EX2016, CURRENT = "14.3.513.0", "15.0.1497.48", "15.1.2507.6", "15.2.1544.37"
CERTIFICATE = "ab" * 32
POLICY = """
schema_version = 1
name = "tested"
rules = [{ name = "unsupported", since = "unsupported_since" }, { name = "unpatched", since = "missing_since" }]
cohorts = [
  { name = "2010 \\u00e4/,;=|", products = ["Exchange Server 2010"], starts_on = 2000-01-01 },
  { name = "late", products = ["Exchange Server 2016"], starts_on = 2024-03-27 },
  { name = "2013", products = ["Exchange Server 2013"], starts_on = 2000-01-01 },
]
stages = [
  { days = 20 }, { days = 20, throttle = 20 }, { days = 20, throttle = 20, block = 5 },
  { days = 20, throttle = 30, block = 10 }, { days = 7, throttle = 60 }, { block = 60 },
]
window = "WINDOW"
exemptions = [{ server = "exempt.example", until = 2024-03-29 }]
[pause]
days_per_year = 90
[export]
service_name = 'SERVICE'
on_failure = "FAILURE"
"""
IDENTITIES = f"""identity,server
192.0.2.1,mx3.example
192.0.2.0/24,mx1.example
192.0.0.0/16,mx2.example
198.51.100.7,mx5.example
2001:db8:7::/48,mx4.example
2001:db8:7::25,mx5.example
sha256:{CERTIFICATE},mx4.example
"""
AS_OF = date(2024, 3, 21)


@dataclass(frozen=True)
class World:
    """An export in a folder, and the oracle of the history that it was made from."""

    out: Path
    oracle: Oracle

    @property
    def known(self) -> Tables:
        return self.oracle.known

    def vector(self, number: int, case: Case) -> Vector:
        """Give a case with what the model says of it."""
        expected, found = self.oracle.expected(case)
        stamp = None if isinstance(found, Reason) else found
        return Vector(
            id=number,
            at=case.at.replace(tzinfo=UTC),
            received=case.received,
            ip=case.ip,
            certificate=case.certificate,
            server=stamp and stamp.server,
            build=str(stamp.build) if stamp and stamp.build else None,
            direct=stamp is not None,
            expect=Answer(**{name: getattr(expected, name) for name in Answer.model_fields}),
        )


def make_world(folder: Path, *, window: str = "spread", service: str = "Mail", on_failure: str = "accept") -> World:
    """Make a store of servers in all stages, one paused, one exempt, one remediated, and export a policy of it."""
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)  # mail servers read it as other users
    start = {f"mx{n}.example": date(2024, 3, 20) - timedelta(days=11 * n) for n in range(9)}
    start |= {"paused.example": date(2024, 2, 1), "exempt.example": date(2024, 2, 1), "2001:db8::25": date(2024, 2, 12)}
    rows = [(f"{day}T10:00", name, EX2013) for name, day in start.items()]
    rows += [("2024-01-20T09:00", "old.example", EX2010), ("2024-01-20T09:00", "young.example", EX2016)]
    rows += [("2024-03-21T09:00", "current.example", CURRENT), ("2024-01-01T09:00", "cured.example", EX2013)]
    rows += [("2024-02-20T09:00", "cured.example", CURRENT)]
    store = store_of(folder / "s.duckdb", rows)
    text = POLICY.replace("WINDOW", window).replace("SERVICE", service).replace("FAILURE", on_failure)
    (folder / "tested.toml").write_text(text, encoding="utf-8")
    (folder / "identities.csv").write_text(IDENTITIES)
    (folder / "pauses.csv").write_text("tenant,from,days\npaused.example,2024-03-24,4\n")
    setting = Setting(store=store, to_on=AS_OF, pauses=folder / "pauses.csv")
    policy = str(folder / "tested.toml")
    out = folder / "out"
    out.mkdir(exist_ok=True)
    export_policy(policy, setting, Order(out=out, identities=folder / "identities.csv"))
    (result,) = replay_policies([policy], setting)
    catalogue = shipped.load_catalogue()
    with open_store(store) as opened:
        history = opened.history(to_on=AS_OF)
        identities = read_identities(IDENTITIES, source="identities.csv")
        known = tables(result, history, catalogue, Edition(AS_OF, 2024032100), identities)
    builds = frozenset(known.builds["build"])
    return World(
        out, Oracle(known=known, servers=history.servers, builds=builds, way=result.course, catalogue=catalogue)
    )


def random_cases(world: World, n_cases: int, seed: int) -> Iterator[Case]:
    """Make up cases of known servers and strangers, of all builds that matter, in and around the export's days."""
    rng = random.Random(seed)
    servers = [*world.known.servers["server"], "stranger.example", "not..usable"]
    builds = [EX2010, EX2013, EX2016, CURRENT, "15.1.2507.7", "15.20.1.1", "x"]
    ordinary = "Received: from a.example by b.example (Postfix) with ESMTP id 1; now"
    ips = ["203.0.113.1"] * 6 + [
        "192.0.2.1",
        "192.0.2.9",
        "192.0.9.9",
        "2001:db8:7::1",
        "2001:db8:7::25",
        "2001:db8::1",
    ]
    for _ in range(n_cases):
        at = datetime(2024, 3, 21) + timedelta(seconds=rng.randrange(16 * 86_400))
        ours = line(rng.choice(servers), rng.choice(builds), at)
        received = rng.choice(((ours,),) * 8 + ((ordinary, ours), (ours, line("mx7.example", EX2013, at))))
        certificate = CERTIFICATE if rng.random() < 0.05 else None
        yield Case(at=at, received=received, ip=rng.choice(ips), certificate=certificate)
