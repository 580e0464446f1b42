"""The slow twin, first part: what a build proves and from when a policy calls it vulnerable, in the plainest Python.

Written from the meaning of the words alone, not from the package: of it, it uses only the policy model and `Build`.
"""

import csv
import re
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

from enforcement.builds import Build
from enforcement.policy import Policy

CATALOGUE = Path(__file__).parent.parent / "data" / "catalogue"
ON_PREMISES = ("exact", "rounded up", "newer")
# The strings, quoted names, operators of two signs, words and single signs of a `when`.
TOKEN = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|<>|<=|>=|!=|\w+|\S""")


@dataclass(frozen=True)
class Release:
    product: str
    name: str
    line: str
    kind: str
    released_on: date
    build: Build
    is_security: bool
    is_public: bool
    shown_by_smtp_hop: bool


@dataclass(frozen=True)
class Exploit:
    listed_on: date
    fixes: list[Build]


@dataclass(frozen=True)
class Facts:
    releases: list[Release]
    support_ends: dict[str, date]
    exploits: list[Exploit]


@dataclass(frozen=True)
class Standing:
    """What a build seen on a kind of hop proves, and from when and by which rule it is vulnerable."""

    evidence: str
    product: str | None = None
    line: str | None = None
    update: str | None = None
    kind: str | None = None
    proves: Build | None = None
    missing_since: date | None = None
    unsupported_since: date | None = None
    exploited_since: date | None = None
    below_minimum_since: date | None = None
    vulnerable_from: date | None = None
    rule: str | None = None

    @property
    def is_known(self) -> bool:
        return self.evidence in ON_PREMISES

    def is_vulnerable_on(self, day: date) -> bool:
        return self.vulnerable_from is not None and self.vulnerable_from <= day

    def on(self, day: date) -> str:
        """The word for this build on a day."""
        if self.evidence == "cloud":
            return "out of scope"
        if self.evidence == "unknown":
            return "unknown"
        if self.is_vulnerable_on(day):
            return "vulnerable"
        for since in (self.missing_since, self.unsupported_since):
            if since is not None and since <= day:
                return "behind"
        return "current"


def read_facts(folder: Path = CATALOGUE) -> Facts:
    """Read the table of builds, the support dates and the exploited vulnerabilities."""
    releases = [
        Release(
            product=row["product"],
            name=row["name"],
            line=row["line"],
            kind=row["kind"],
            released_on=date.fromisoformat(row["released_on"]),
            build=Build.parse(row["build"]),
            is_security=row["is_security"] == "true",
            is_public=row["is_public"] == "true",
            shown_by_smtp_hop=row["shown_by_smtp_hop"] == "true",
        )
        for row in rows(folder / "exchange_builds.csv")
    ]
    support_ends = {}
    for row in rows(folder / "exchange_lifecycle.csv"):
        if row["extended_end"]:
            support_ends[row["product"]] = date.fromisoformat(row["extended_end"])
    exploits = []
    for row in rows(folder / "exchange_exploited_cves.csv"):
        fixes = []
        for column, text in row.items():
            if column.startswith("first_fix_"):
                fixes += [Build.parse(found) for found in re.findall(r"=\s*([\d.]+)", text)]
        exploits.append(Exploit(date.fromisoformat(row["date_added"]), fixes))
    return Facts(releases, support_ends, exploits)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def in_same_line(one: Build, other: Build) -> bool:
    n_shared = 3 if one.major >= 15 else 2
    return one[:n_shared] == other[:n_shared]


def stand(text: str | None, hop: str, policy: Policy, facts: Facts) -> Standing:
    """Place a build and apply the policy's rules to it."""
    if text is None:
        return Standing("unknown")
    seen = Build.parse(text)
    if seen.major == 15 and seen.minor >= 20:
        return Standing("cloud")
    of_line = [release for release in facts.releases if in_same_line(release.build, seen)]
    if not of_line:
        return Standing("unknown")
    product, line = of_line[0].product, of_line[0].line
    at_or_above = [release for release in of_line if release.build >= seen]
    if at_or_above:
        found = min(at_or_above, key=lambda release: release.build)
        evidence = "exact" if found.build == seen else "rounded up"
        update, kind, proves = found.name, found.kind, found.build
        missing_since = first_missing(found, hop, policy, facts)
        exploited_since = first_exploited(found, hop, facts)
    else:
        evidence = "newer"
        update, kind, proves = None, None, seen
        missing_since = exploited_since = None
    support_ends_on = facts.support_ends.get(product)
    known = Standing(
        evidence=evidence,
        product=product,
        line=line,
        update=update,
        kind=kind,
        proves=proves,
        missing_since=missing_since,
        unsupported_since=support_ends_on + timedelta(days=1) if support_ends_on else None,
        exploited_since=exploited_since,
        below_minimum_since=first_minimum(product, line, proves, policy),
    )
    return apply_rules(known, hop, policy)


def apply_rules(known: Standing, hop: str, policy: Policy) -> Standing:
    """Give the earliest date of a rule; of rules that give the same date, the first written one is named."""
    columns = {
        "product": known.product,
        "line": known.line,
        "update": known.update,
        "kind": known.kind,
        "build": known.proves.padded if known.proves else None,
        "hop": hop,
        "evidence": known.evidence,
        "missing_since": known.missing_since,
        "unsupported_since": known.unsupported_since,
        "exploited_since": known.exploited_since,
        "below_minimum_since": known.below_minimum_since,
    }
    vulnerable_from, name = None, None
    for rule in policy.rules:
        since: date | None = getattr(known, str(rule.since))
        if since is None or not (rule.when is None or holds(rule.when, columns)):
            continue
        from_on = since + timedelta(days=rule.after_days)
        if vulnerable_from is None or from_on < vulnerable_from:
            vulnerable_from, name = from_on, rule.name
    return replace(known, vulnerable_from=vulnerable_from, rule=name)


def first_minimum(product: str, line: str, proves: Build, policy: Policy) -> date | None:
    dates = [
        minimum.from_on
        for minimum in policy.minimum_builds
        if minimum.product == product and minimum.line in {None, line} and minimum.build > proves
    ]
    return min(dates, default=None)


def first_missing(own: Release, hop: str, policy: Policy, facts: Facts) -> date | None:
    missing = [
        update.released_on
        for update in facts.releases
        if update.product == own.product
        and update.is_security
        and update.released_on > own.released_on
        and (update.is_public or policy.count_private_updates)
        and (update.shown_by_smtp_hop or hop == "mapi")
    ]
    return min(missing, default=None)


def first_exploited(own: Release, hop: str, facts: Facts) -> date | None:
    since = []
    for exploit in facts.exploits:
        fixes = []
        for release in facts.releases:
            shows = release.shown_by_smtp_hop or hop == "mapi"
            if release.build in exploit.fixes and release.product == own.product and shows:
                fixes.append(release)
        if not fixes:
            continue
        of_line = [fix for fix in fixes if in_same_line(fix.build, own.build)]
        if of_line:
            fix = min(of_line, key=lambda fix: fix.build)
            lacks = own.build < fix.build
        else:
            fix = min(fixes, key=lambda fix: fix.released_on)
            lacks = own.released_on < fix.released_on
        if lacks:
            since.append(max(exploit.listed_on, fix.released_on))
    return min(since, default=None)


def holds(when: str, columns: Mapping[str, str | date | None]) -> bool:
    """Ask another SQL engine than the package's: SQLite, every value as text (dates as ISO text sort as dates do).

    A condition that comes out as neither true nor false (of a column without a value) does not hold.
    """
    tokens = TOKEN.findall(when)
    words = []
    for position, token in enumerate(tokens):
        is_date = token.upper() == "DATE" and tokens[position + 1 : position + 2] and tokens[position + 1][0] == "'"
        if not is_date:  # DATE '2024-01-01' is the text '2024-01-01' here
            words.append(f'"{token.lower()}"' if token.lower() in columns else token)
    condition = " ".join(words)
    with sqlite3.connect(":memory:") as connection:
        connection.execute("PRAGMA case_sensitive_like = ON")
        names = ", ".join('"' + name + '" TEXT' for name in columns)
        connection.execute(f"CREATE TABLE build ({names})")
        places = ", ".join("?" for _ in columns)
        values = [str(value) if value is not None else None for value in columns.values()]
        connection.execute(f"INSERT INTO build VALUES ({places})", values)
        return connection.execute(f"SELECT 1 FROM build WHERE {condition}").fetchone() is not None
