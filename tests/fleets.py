"""Random small fleets, their mail, and policies for them."""

from datetime import date, datetime, time, timedelta
from random import Random

from agreement import Case
from hypothesis import strategies as st
from reference import EXCHANGE, Sender
from reference_clock import ClockStart, Message, Pause

from enforcement.builds import Build
from enforcement.history import Period
from enforcement.policy import (
    Cohort,
    Exemption,
    Guardrail,
    Measure,
    MinimumBuild,
    PauseQuota,
    Policy,
    Rule,
    Since,
    Stage,
    Unit,
    Window,
)
from enforcement.received import Route

FIRST, LAST = date(2023, 11, 20), date(2024, 3, 31)  # a turn of the year, and a 29 February

# Of every kind, the vulnerable ones first; under `after_days = 90`, one turns vulnerable within the days above.
BUILDS = [
    ("8.3.298.1", "smtp"),  # 2007: unsupported
    ("14.3.487.0", "mapi"),  # 2010
    ("15.0.1497.42", "smtp"),  # 2013; smtp and mapi hops differ
    ("15.0.1497.42", "mapi"),
    ("15.1.2176.2", "smtp"),  # 2016 CU19
    ("15.1.2507.27", "smtp"),  # 2016 CU23 Jun23SU
    ("15.1.2507.34", "smtp"),  # Oct23SU: vulnerable from 2024-02-12
    ("15.1.2507.33", "smtp"),  # rounded up to it
    ("15.1.2507.35", "smtp"),  # Nov23SU: clean
    ("15.2.1544.9", "smtp"),  # 2019 CU14 Mar24SU: clean
    ("15.2.1544.9", "mapi"),
    ("15.2.2562.9999", "smtp"),  # newer than the catalogue
    ("15.1.2507.9999", "smtp"),  # the same, of a product whose support ends
    ("15.2.9999.1", "smtp"),  # unknown line
    (None, "smtp"),  # no build
    ("15.20.7228.32", "smtp"),  # Exchange Online
]
PRODUCTS = [f"Exchange Server {name}" for name in (2007, 2010, 2013, 2016, 2019)]
TENANTS = ["contoso.example", "fabrikam.example", "northwind.example", "other.example"]
SERVERS = [f"{name}.{tenant}" for tenant in TENANTS for name in ("mx1", "mx2")]
CONDITIONS = [
    "product <> 'Exchange Server 2013'",
    "hop = 'mapi' OR kind = 'CU'",
    "update LIKE '%SU' AND NOT line IN ('CU14', 'SP3')",
    "build < '15.01.0000.000'",
    "exploited_since IS NOT NULL AND missing_since >= DATE '2023-01-01'",
    "evidence IN ('exact', 'newer') AND unsupported_since > DATE '2024-01-01'",
    "NOT (below_minimum_since < DATE '2024-01-15')",
]

a_day = st.dates(FIRST, LAST)
a_share = st.sampled_from([0.0, 0.2, 0.5, 0.52, 0.81, 1.0])  # between the places of the tenants


def subsets(values: list[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True).map(tuple)


@st.composite
def stages(draw: st.DrawFn) -> tuple[Stage, ...]:
    found = []
    n = draw(st.integers(0, 6))
    for number in range(n + 1):
        block = draw(st.sampled_from([0, 0, 1, 5, 20, 59, 60]))
        throttle = min(draw(st.sampled_from([0, 5, 20, 30, 55, 60])), 60 - block)
        days = None if number == n else draw(st.integers(1, 25))
        found.append(Stage(days=days, throttle=throttle, block=block))
    return tuple(found)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    rules = [
        Rule(
            name=f"rule {number}",
            since=draw(st.sampled_from([*Since, Since.UNSUPPORTED_SINCE, Since.MISSING_SINCE])),
            after_days=draw(st.sampled_from([0, 0, 1, 30, 90])),
            when=draw(st.one_of(st.none(), st.sampled_from(CONDITIONS))),
        )
        for number in range(draw(st.integers(1, 3)))
    ]
    minimum_builds = [
        MinimumBuild(
            product=draw(st.sampled_from(PRODUCTS[3:])),
            build=Build.parse(draw(st.sampled_from(["15.1.2507.34", "15.1.2507.35", "15.2.1544.36", "15.1.9999.1"]))),
            from_on=draw(a_day),
            line=draw(st.sampled_from([None, None, "CU23", "CU14"])),
        )
        for _ in range(draw(st.integers(0, 2)))
    ]
    cohorts: list[Cohort] = [
        Cohort(
            name=f"Cohort {number}",
            starts_on=draw(st.one_of(st.just(date(2000, 1, 1)), a_day)),
            products=draw(st.one_of(st.none(), subsets(PRODUCTS))),
            tenants=draw(st.one_of(st.none(), st.none(), subsets(TENANTS))),
            share_of_tenants=draw(st.one_of(st.none(), st.none(), a_share)),
        )
        for number in range(draw(st.integers(0, 3)))
    ]
    if not cohorts or draw(st.booleans()):
        cohorts.append(Cohort(name="rest", starts_on=draw(st.sampled_from([date(2000, 1, 1), date(2024, 1, 10)]))))
    exemptions = []
    for _ in range(draw(st.integers(0, 2))):
        until_on = draw(a_day)
        from_on = draw(st.one_of(st.none(), st.dates(FIRST, until_on)))
        whom = draw(st.sampled_from([{"tenant": TENANTS[0]}, {"server": SERVERS[0]}, {"server": SERVERS[3]}]))
        exemptions.append(Exemption(**whom, reason="", from_on=from_on, until_on=until_on))
    guardrails = [
        Guardrail(
            measure=draw(st.sampled_from(Measure)),
            per=draw(st.sampled_from(Unit)),
            at_most=draw(st.sampled_from([0.0, 0.07, 0.25, 0.5, 1.0])),
            min_messages=draw(st.sampled_from([0, 1, 3, 10, 1000])),
            max_unjudged_share=draw(st.sampled_from([0.0, 0.05, 0.5, 1.0])),
        )
        for _ in range(draw(st.integers(0, 2)))
    ]
    quota = draw(st.one_of(st.none(), st.integers(0, 40)))
    return Policy(
        schema_version=1,
        name="random",
        rules=tuple(rules),
        minimum_builds=tuple(minimum_builds),
        cohorts=tuple(cohorts),
        stages=draw(stages()),
        routes=draw(st.sampled_from([tuple(Route), (Route.DIRECT,), (Route.RELAYED, Route.THROUGH_CLOUD)])),
        window=draw(st.sampled_from(Window)),
        clear_after_days=draw(st.sampled_from([0, 1, 2, 7, 14, 30])),
        count_private_updates=draw(st.booleans()),
        pause=None if quota is None else PauseQuota(days_per_year=quota),
        exemptions=tuple(exemptions),
        guardrails=tuple(guardrails),
    )


@st.composite
def mail(draw: st.DrawFn) -> list[Message]:
    """Mail of a few servers; behind a name are one to three builds, and each changes on chosen days."""
    found = []
    for server in draw(st.lists(st.sampled_from(SERVERS), min_size=1, max_size=4, unique=True)):
        builds = [draw(st.sampled_from(BUILDS[:7])), *draw(st.lists(st.sampled_from(BUILDS), max_size=2))]
        every = draw(st.sampled_from([1, 3, 8, 14, 20]))
        days = draw(st.lists(st.integers(0, (LAST - FIRST).days // every), min_size=1, max_size=30))
        for i in days:
            build, hop = draw(st.sampled_from(builds))
            minute, second = draw(st.integers(0, 59)), draw(st.integers(0, 59))
            found.append(
                Message(
                    datetime.combine(FIRST + timedelta(days=i * every), time(draw(st.integers(0, 23)), minute, second)),
                    server,
                    build,
                    hop,
                    draw(st.sampled_from(["direct", "direct", "relayed", "through cloud"])),
                    draw(st.sampled_from([1, 1, 1, 2, 17])),
                )
            )
    return found


@st.composite
def ledgers(draw: st.DrawFn) -> list[Pause]:
    found = []
    for tenant in TENANTS[:2]:
        day = draw(a_day)
        for _ in range(draw(st.integers(0, 3))):
            pause = Pause(tenant, day, draw(st.integers(1, 30)))
            found.append(pause)
            day = pause.from_on + timedelta(days=pause.days + draw(st.integers(0, 20)))
    return found


@st.composite
def clock_starts(draw: st.DrawFn) -> list[ClockStart]:
    return [
        ClockStart(draw(st.sampled_from(SERVERS)), build, draw(a_day), hop)
        for build, hop in draw(st.lists(st.sampled_from(BUILDS), max_size=3))
    ]


@st.composite
def senders(draw: st.DrawFn, most: int) -> list[Sender]:
    weights = draw(st.lists(st.integers(1, 5), min_size=1, max_size=most))
    return [
        Sender(
            name=f"sender {number}",
            share=weight / sum(weights),
            retry_minutes=tuple(
                draw(st.lists(st.sampled_from([1, 5, 10, 15, 30, 60, 61, 240]), min_size=1, max_size=3))
            ),
            gives_up_after_hours=draw(st.sampled_from([0, 1, 4, 48])),
        )
        for number, weight in enumerate(weights)
    ]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    period = None
    if draw(st.booleans()):
        from_on = draw(a_day)
        period = Period(from_on, draw(st.dates(from_on, LAST)))
    return Case(
        messages=draw(mail()),
        servers={server: server.partition(".")[2] for server in SERVERS},
        policy=draw(policies()),
        senders=draw(st.one_of(senders(most=1), senders(most=3))),
        pauses=draw(ledgers()),
        clock_starts=draw(clock_starts()),
        period=period,
    )


# --- fleets with longer lives -------------------------------------------------------------------------------------


def lively(rng: Random) -> Case:
    """Make a fleet whose servers patch, fall back and fall silent, under a policy that bites within its days."""
    vulnerable, all_products = BUILDS[:7], [*PRODUCTS, "Exchange Server SE"]
    messages = []
    for server in SERVERS[:6]:
        day = FIRST + timedelta(days=rng.randrange(40))
        while day <= LAST:
            build, hop = rng.choice(rng.choice([vulnerable, BUILDS]))
            every, ends_on = rng.choice([1, 1, 2, 8, 15]), day + timedelta(days=rng.choice([1, 5, 14, 20, 40]))
            while day < ends_on:
                at = datetime.combine(day, time(rng.randrange(24), rng.randrange(60), rng.randrange(60)))
                route = rng.choice(["direct", "direct", "direct", "relayed", "through cloud"])
                messages.append(Message(at, server, build, hop, route, rng.choice([1, 2, 30])))
                if rng.random() < 0.1:  # another server behind the same name
                    messages.append(Message(at, server, *rng.choice(BUILDS)))
                day += timedelta(days=every)
            day = ends_on + timedelta(days=rng.choice([0, 0, 3, 20]))
    rng.shuffle(all_products)
    cohorts = [
        Cohort(name="a", starts_on=FIRST, products=tuple(all_products[:3])),
        Cohort(name="b", starts_on=FIRST + timedelta(days=rng.randrange(30)), share_of_tenants=rng.choice([0.4, 0.9])),
        Cohort(name="c", starts_on=FIRST + timedelta(days=10), tenants=(TENANTS[rng.randrange(3)],)),
        Cohort(name="d", starts_on=FIRST),
    ]
    rises = [(0, 0), (5, 0), (20, 0), (45, 0), (30, 5), (30, 20), (40, 20), (10, 45)]
    schedule = [Stage(days=rng.randrange(1, 16), throttle=throttle, block=block) for throttle, block in rises]
    policy = Policy(
        schema_version=1,
        name="lively",
        rules=(
            Rule(name="unsupported", since=Since.UNSUPPORTED_SINCE),
            Rule(name="unpatched", since=Since.MISSING_SINCE, after_days=rng.choice([0, 30, 90])),
        ),
        cohorts=tuple(cohorts[rng.randrange(4) :]),
        stages=(*schedule[rng.randrange(7) :], Stage(block=60)),
        routes=rng.choice([tuple(Route), (Route.DIRECT,)]),
        window=rng.choice(list(Window)),
        clear_after_days=rng.choice([3, 7, 14]),
        pause=PauseQuota(days_per_year=rng.choice([5, 30])),
        exemptions=(Exemption(tenant=TENANTS[1], reason="", from_on=date(2024, 1, 5), until_on=date(2024, 1, 20)),),
        guardrails=tuple(
            Guardrail(measure=measure, per=per, at_most=rng.choice([0.01, 0.1, 0.3]), min_messages=rng.choice([1, 60]))
            for measure in Measure
            for per in Unit
        ),
    )
    return Case(
        messages=messages,
        servers={server: server.partition(".")[2] for server in SERVERS[:6]},
        policy=policy,
        senders=rng.choice(
            [
                [EXCHANGE],
                [Sender("uneven", 1.0, (10, 30, 120), 24)],
                [Sender("prompt", 0.7, (15,), 48), Sender("hasty", 0.3, (1, 59, 60), 4)],
            ]
        ),
        pauses=[Pause(tenant, date(2023, 12, 20) + timedelta(days=rng.randrange(20)), 12) for tenant in TENANTS[:2]],
        clock_starts=[ClockStart(SERVERS[0], "15.0.1497.42", FIRST), ClockStart(SERVERS[4], "15.1.2507.35", FIRST)],
    )
