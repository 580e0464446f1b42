"""How much mail there is, by what it is and where it came from, whether a policy may touch it or not."""

from typing import Any, Final

import narwhals as nw
import polars as pl

from enforcement.builds import Evidence
from enforcement.history import Period, Traffic
from enforcement.policy import Policy
from enforcement.schema import MAIL_BY_KIND, MAIL_BY_PAIR, TRAFFIC_BASE, conform, day_number

NO_PRODUCT: Final = "unknown"
CLOUD_PRODUCT: Final = "Exchange Online"
_PAIR: Final = ["server_id", "build_id"]
_NEVER: Final = 1_000_000  # a day that no history reaches


def mail_by_pair(traffic: Traffic, risk: pl.DataFrame, period: Period) -> pl.DataFrame:
    """Count the messages read in a period by server and build: MAIL_BY_PAIR. Takes RISK.

    >>> from datetime import date
    >>> from enforcement.history import polars_traffic
    >>> rows = {"server_id": 1, "build_id": 7, "route": "direct", "day": [20_000, 20_001], "messages": [3, 4]}
    >>> table = pl.DataFrame({"build_id": [7], "risk_from": [date(2024, 10, 5)]})
    >>> mail_by_pair(polars_traffic(pl.DataFrame(rows)), table, Period(date(2024, 1, 1), date(2024, 12, 31))).rows()
    [(1, 7, 7, 4)]
    """
    builds = risk.select("build_id", risk_day=pl.col("risk_from").cast(pl.Int32).fill_null(_NEVER))
    counted = (
        _days_of(traffic, period)
        .join(traffic.bring(builds), on="build_id")
        .with_columns(vulnerable=nw.when(nw.col("day") >= nw.col("risk_day")).then(nw.col("messages")).otherwise(0))
        .group_by(_PAIR)
        .agg(read=nw.col("messages").sum(), vulnerable=nw.col("vulnerable").sum())
    )
    return conform(traffic.collected(counted), MAIL_BY_PAIR, what="mail by pair").sort(_PAIR)


def tenant_deciles(mail: pl.DataFrame, servers: pl.DataFrame) -> pl.DataFrame:
    """Sort tenants by messages read into ten groups of equal numbers, 1 the smallest: TENANT_DECILES.

    Takes MAIL_BY_PAIR and SERVERS.

    >>> mail = pl.DataFrame({"server_id": [1, 2], "read": [5, 3]})
    >>> tenant_deciles(mail, pl.DataFrame({"server_id": [1, 2], "tenant": ["a.example", "b.example"]})).rows()
    [('b.example', 3, 1), ('a.example', 5, 6)]
    """
    return (
        mail.join(servers.select("server_id", "tenant"), on="server_id")
        .group_by("tenant")
        .agg(read=pl.col("read").sum())
        .sort("read", "tenant")
        .with_columns(decile=(1 + pl.int_range(pl.len()) * 10 // pl.len()).cast(pl.Int8))
    )


def mail_by_kind(traffic: Traffic, deciles: pl.DataFrame, pairs: pl.DataFrame, period: Period) -> pl.DataFrame:
    """Count the messages read in a period by what a policy asks of them: MAIL_BY_KIND.

    Takes server_id and decile, and SUBJECT_PAIRS.

    >>> from datetime import date
    >>> from enforcement.history import polars_traffic
    >>> rows = {"server_id": 1, "build_id": 7, "route": "direct", "day": [20_000, 20_001], "messages": [3, 4]}
    >>> deciles = pl.DataFrame({"server_id": [1], "decile": [10]})
    >>> pairs = pl.DataFrame({"server_id": [1], "build_id": [7], "subject_from": [date(2024, 10, 5)]})
    >>> year = Period(date(2024, 1, 1), date(2024, 12, 31))
    >>> mail_by_kind(polars_traffic(pl.DataFrame(rows)), deciles, pairs, year).select("started", "messages").rows()
    [(False, 3), (True, 4)]
    """
    starts = pairs.select(*_PAIR, subject_day=pl.col("subject_from").cast(pl.Int32))
    started = nw.when(nw.col("subject_day") <= nw.col("day")).then(2).otherwise(1)
    counted = (
        _days_of(traffic, period)
        .join(traffic.bring(deciles.select("server_id", pl.col("decile").cast(pl.Int32))), on="server_id")
        .join(traffic.bring(starts), on=_PAIR, how="left")
        .with_columns(state=nw.when(nw.col("subject_day").is_null()).then(0).otherwise(started))
        .group_by("build_id", "route", "day", "decile", "state")
        .agg(nw.col("messages").sum())
    )
    found = traffic.collected(counted).with_columns(
        pl.col("day").cast(pl.Int32), started=pl.when(pl.col("state") > 0).then(pl.col("state") == 2)
    )
    return conform(found, MAIL_BY_KIND, what="mail by kind").sort(list(MAIL_BY_KIND))


def subject_by_route(traffic: Traffic, pairs: pl.DataFrame, policy: Policy, period: Period) -> dict[str, int]:
    """Count the subject messages of a period by the route that they came. Takes SUBJECT_PAIRS.

    >>> from datetime import date
    >>> from types import SimpleNamespace
    >>> from enforcement.history import polars_traffic
    >>> rows = {"server_id": 1, "build_id": 7, "route": ["direct", "relayed"], "day": 20_001, "messages": [3, 4]}
    >>> pairs = pl.DataFrame({"server_id": [1], "build_id": [7], "subject_from": [date(2024, 10, 5)]})
    >>> year = Period(date(2024, 1, 1), date(2024, 12, 31))
    >>> policy = SimpleNamespace(routes=["direct"])
    >>> subject_by_route(polars_traffic(pl.DataFrame(rows)), pairs, policy, year)
    {'direct': 3}
    """
    starts = pairs.select(*_PAIR, subject_day=pl.col("subject_from").cast(pl.Int32))
    counted = (
        _days_of(traffic, period)
        .join(traffic.bring(starts), on=_PAIR)
        .filter(nw.col("subject_day") <= nw.col("day"))
        .group_by("route")
        .agg(nw.col("messages").sum())
    )
    found = {str(route): int(messages) for route, messages in traffic.collected(counted).iter_rows()}
    return {str(route): found[route] for route in policy.routes if route in found}


def traffic_base(kinds: pl.DataFrame, standings: pl.DataFrame, risk: pl.DataFrame, policy: Policy) -> pl.DataFrame:
    """Count all messages by day, product and decile: TRAFFIC_BASE. Takes MAIL_BY_KIND, STANDINGS and RISK.

    >>> from datetime import date
    >>> from types import SimpleNamespace
    >>> kinds = {"build_id": 7, "route": "relayed", "day": [date(2026, 3, 1)], "decile": 1, "messages": 5}
    >>> table = pl.DataFrame({"build_id": [7], "evidence": ["exact"], "product": ["Exchange Server 2016"]})
    >>> risk = pl.DataFrame({"build_id": [7], "risk_from": [date(2026, 1, 1)]})
    >>> base = traffic_base(pl.DataFrame(kinds), table, risk, SimpleNamespace(routes=["direct"]))
    >>> base.select("read", "in_scope", "vulnerable").rows()
    [(5, 0, 5)]
    """
    counted = (
        kinds.join(standings, on="build_id")
        .join(risk, on="build_id")
        .group_by("day", product_shown(), "decile")
        .agg(
            read=pl.col("messages").sum(),
            in_scope=pl.col("messages").filter(_is_known() & on_route(policy)).sum(),
            vulnerable=pl.col("messages").filter(pl.col("risk_from") <= pl.col("day")).sum(),
        )
    )
    return conform(counted, TRAFFIC_BASE, what="traffic").sort("day", "product", "decile")


def untouched(kinds: pl.DataFrame, standings: pl.DataFrame, policy: Policy) -> pl.DataFrame:
    """Count the messages read by why they are not subject: why, messages; most messages first.

    Of several reasons a message has the one for which `decide` asks first.

    >>> from datetime import date
    >>> from types import SimpleNamespace
    >>> kinds = {"build_id": 7, "route": "relayed", "day": [date(2026, 3, 1)], "started": True, "messages": 5}
    >>> table = pl.DataFrame({"build_id": [7], "evidence": ["exact"], "vulnerable_from": [date(2026, 1, 1)]})
    >>> untouched(pl.DataFrame(kinds), table, SimpleNamespace(routes=["direct"])).rows()
    [("route not the policy's", 5)]
    """
    why = (
        pl.when(pl.col("evidence") == Evidence.CLOUD)
        .then(pl.lit("Exchange Online itself"))
        .when(pl.col("evidence") == Evidence.UNKNOWN)
        .then(pl.lit("build not known"))
        .when((pl.col("vulnerable_from") <= pl.col("day")).fill_null(value=False).not_())
        .then(pl.lit("not vulnerable that day"))
        .when(on_route(policy).not_())
        .then(pl.lit("route not the policy's"))
        .when(pl.col("started").is_null())
        .then(pl.lit("in no cohort"))
        .when(pl.col("started").not_())
        .then(pl.lit("cohort not started"))
        .otherwise(pl.lit("subject"))
    )
    return (
        kinds.join(standings, on="build_id")
        .group_by(why=why)
        .agg(pl.col("messages").sum())
        .filter(pl.col("why") != "subject")
        .sort("messages", "why", descending=[True, False])
    )


def evidence(kinds: pl.DataFrame, standings: pl.DataFrame) -> pl.DataFrame:
    """Count the messages read by how their build is known: evidence, messages.

    >>> kinds = pl.DataFrame({"build_id": [7, 7], "messages": [5, 6]})
    >>> evidence(kinds, pl.DataFrame({"build_id": [7], "evidence": ["exact"]})).row(0)
    ('exact', 11)
    """
    every = pl.DataFrame({"evidence": [str(kind) for kind in Evidence]})
    counted = kinds.join(standings, on="build_id").group_by("evidence").agg(pl.col("messages").sum())
    return every.join(counted, on="evidence", how="left", maintain_order="left").with_columns(
        pl.col("messages").fill_null(0)
    )


def product_shown() -> pl.Expr:
    """Name the product of a build as people read it.

    >>> pl.DataFrame({"evidence": ["cloud", "unknown"], "product": pl.Series([None, None], dtype=pl.String)}).select(
    ...     product_shown()).to_series().to_list()
    ['Exchange Online', 'unknown']
    """
    return (
        pl.when(pl.col("evidence") == Evidence.CLOUD)
        .then(pl.lit(CLOUD_PRODUCT))
        .otherwise(pl.col("product").fill_null(NO_PRODUCT))
        .alias("product")
    )


def on_route(policy: Policy) -> pl.Expr:
    """Tell whether a message came by a route whose messages the policy may touch.

    >>> from types import SimpleNamespace
    >>> pl.DataFrame({"route": ["direct", "relayed"]}).select(on_route(SimpleNamespace(routes=["direct"]))).rows()
    [(True,), (False,)]
    """
    return pl.col("route").is_in([str(route) for route in policy.routes])


def _is_known() -> pl.Expr:
    return ~pl.col("evidence").is_in([Evidence.UNKNOWN.value, Evidence.CLOUD.value])


def _days_of(traffic: Traffic, period: Period) -> nw.LazyFrame[Any]:
    first, last = day_number(period.from_on), day_number(period.to_on)
    return traffic.days.filter(nw.col("day") >= first, nw.col("day") <= last)
