"""What the fleet says in words, figures and tables: who is vulnerable, since when, and why."""

from typing import Final

import polars as pl

from enforcement.builds import Evidence
from enforcement.fleet import SILENT
from enforcement.history import Period
from enforcement.pieces import Figure, Piece, count, difference, figures, said, share, table
from enforcement.policy import Policy
from enforcement.standing import WORST_FIRST, Standing

_ORDER: Final = (*WORST_FIRST, SILENT)
_AGE_DAYS: Final = 30  # width of a bar in the picture of missing updates
_MOST_AGES: Final = 60  # bars
_MOST_BARS: Final = 80
_BAR_DAYS: Final = 7  # between two days of a standing


def present(servers: pl.DataFrame, policy: Policy, period: Period) -> pl.DataFrame:
    """Keep of the fleet's rows the builds of the last day on which each server handed mail over, unless it is long ago.

    A build keeps its rows of all routes.

    >>> from datetime import date
    >>> from enforcement.shipped import load_policy
    >>> seen = {"server": ["a", "a", "b"], "route": ["direct"] * 3, "build": ["old", "new", "old"],
    ...     "last_seen_on": [date(2026, 5, 1), date(2026, 6, 1), date(2026, 1, 1)]}
    >>> period = Period(date(2026, 1, 1), date(2026, 6, 2))
    >>> present(pl.DataFrame(seen), load_policy("ninety-days"), period).select("server", "build").rows()
    [('a', 'new')]
    """
    handed = servers.filter(pl.col("route").is_not_null())
    last_day = pl.col("last_seen_on").max().over("server")
    last = pl.col("last_seen_on").max().over("server", "build") == last_day
    silent = (pl.lit(period.to_on) - last_day).dt.total_days() > policy.silent_after_days
    return handed.filter(last & ~silent)


def worst(shown: pl.DataFrame) -> pl.DataFrame:
    """Keep one row a server: the worst of what it showed."""
    rank = pl.col("standing").replace_strict({str(name): rank for rank, name in enumerate(_ORDER)})
    return (
        shown.with_columns(rank=rank)
        .sort("server", "rank", "days_behind", "build", descending=[False, False, True, False], nulls_last=True)
        .unique("server", keep="first", maintain_order=True)
        .drop("rank")
    )


def answer(servers: pl.DataFrame, policy: Policy, period: Period) -> Piece:
    """Say how many servers are vulnerable, and how much of the mail they send."""
    shown = worst(present(servers, policy, period))
    vulnerable = shown.filter(standing=Standing.VULNERABLE)
    piece = said(
        "On {day}, {b_n} of the {all} servers seen in the {days} days before are vulnerable by the rules of {policy}: "
        "{b_share}. {mail} of all mail read until then came from builds that are vulnerable on that day.",
        day=period.to_on,
        b_n=f"{vulnerable.height:,}",
        all=f"{shown.height:,}",
        days=policy.silent_after_days,
        policy=policy.name,
        b_share=share(vulnerable.height, shown.height),
        mail=share(_messages(servers.filter(pl.col("vulnerable_from") <= period.to_on)), _messages(servers)),
    )
    return Piece(piece.html.replace("<p>", '<p class="answer">', 1), piece.text)


def _messages(servers: pl.DataFrame) -> int:
    return int(servers["messages"].sum())


def five_figures(servers: pl.DataFrame, standing_by_day: pl.DataFrame, policy: Policy, period: Period) -> Piece:
    """Give the fleet's five figures, each with its base and how it was at the beginning."""
    shown = worst(present(servers, policy, period))
    vulnerable = shown.filter(standing=Standing.VULNERABLE)
    first_day = str(standing_by_day["day"].min())
    before = int(
        standing_by_day.filter(pl.col("day").cast(pl.String) == first_day, standing=Standing.VULNERABLE)[
            "servers"
        ].sum()
    )
    behind = vulnerable["days_behind"].drop_nulls()
    unsupported = shown.filter(pl.col("unsupported_since") <= period.to_on)
    unknown = _messages(servers.filter(evidence=Evidence.UNKNOWN))
    silent = servers.filter(pl.col("route").is_not_null())["server"].n_unique() - shown.height
    tenants = vulnerable["tenant"].n_unique()
    return figures(
        [
            Figure(
                what="vulnerable servers",
                value=f"{vulnerable.height:,}",
                of=f"{share(vulnerable.height, shown.height)} of {shown.height:,} servers seen lately",
                difference=difference(vulnerable.height, before, than=first_day),
            ),
            Figure(
                what="tenants with one or more",
                value=f"{tenants:,}",
                of=f"{share(tenants, shown['tenant'].n_unique())} of {shown['tenant'].n_unique():,} tenants",
            ),
            Figure(
                what="behind, half of them",
                value=f"{float(str(behind.median())):,.0f} days" if behind.len() else "none is",
                of=f"or more: {behind.len():,} vulnerable servers lack an update for that long",
            ),
            Figure(
                what="out of support",
                value=f"{unsupported.height:,}",
                of=f"{share(unsupported.height, shown.height)} of {shown.height:,} servers seen lately",
            ),
            Figure(
                what="cannot be judged",
                value=share(unknown, _messages(servers)),
                of=f"{count(unknown)} messages of builds that the catalogue does not know; "
                f"{silent:,} servers handed nothing over for {policy.silent_after_days} days",
            ),
        ]
    )


def standing_over_time(standing_by_day: pl.DataFrame) -> pl.DataFrame:
    """Give the numbers of servers seen lately by standing, and the span that each bar covers."""
    days = standing_by_day["day"].unique().sort()
    # The last day is always among those that are drawn.
    step = max(1, -(-days.len() // _MOST_BARS))
    drawn = days.gather_every(step, offset=max(days.len() - 1, 0) % step)
    ends = pl.DataFrame({"day": drawn}).with_columns(
        until_on=pl.col("day").shift(-1).fill_null(pl.col("day").dt.offset_by(f"{_BAR_DAYS * step}d"))
    )
    silent = standing_by_day.filter(standing=SILENT).select("day", silent="servers")
    position = pl.col("standing").replace_strict({str(name): rank for rank, name in enumerate(_ORDER)})
    return (
        standing_by_day.filter(pl.col("standing") != SILENT)
        .join(ends, on="day")
        .join(silent, on="day", how="left")
        .with_columns(
            pl.col("silent").fill_null(0),
            position=position,
            seen=pl.col("servers").sum().over("day"),
            when=pl.col("day").cast(pl.String),
        )
        .with_columns(share=pl.col("servers") / pl.col("seen"))
        .rename({"day": "on"})
        .sort("on", "position")
        .with_columns(high=pl.col("servers").cum_sum().over("on"))
        .with_columns(low=pl.col("high") - pl.col("servers"))
    )


def update_age(servers: pl.DataFrame, policy: Policy, period: Period) -> pl.DataFrame:
    """Count the servers by how long the oldest security update they lack has been missing."""
    width = _AGE_DAYS
    behind = worst(present(servers, policy, period)).filter(pl.col("days_behind").is_not_null())
    longest = behind["days_behind"].max()
    if isinstance(longest, int):
        width *= 1 + longest // (_AGE_DAYS * _MOST_AGES)
    start = pl.col("days_behind") // width * width
    return (
        behind.group_by("product", "standing", from_days=start)
        .agg(servers=pl.len())
        .with_columns(until_days=pl.col("from_days") + width)
        .with_columns(span=pl.format("{} to {} days", "from_days", pl.col("until_days") - 1))
        .sort("product", "from_days", "standing")
        .with_columns(high=pl.col("servers").cum_sum().over("product", "from_days"))
        .with_columns(low=pl.col("high") - pl.col("servers"))
    )


def by_product(servers: pl.DataFrame, policy: Policy, period: Period) -> Piece:
    """Give how the servers of each product stand."""
    shown = worst(present(servers, policy, period)).with_columns(pl.col("product").fill_null("not known"))
    counted = shown.group_by("product").agg(
        pl.len().alias("servers"),
        *((pl.col("standing") == str(name)).sum().alias(str(name)) for name in _ORDER[:-2]),
        tenants=pl.col("tenant").n_unique(),
    )
    return table(counted.sort("servers", descending=True), name="products", rows=len(counted))


def by_build(servers: pl.DataFrame, policy: Policy, period: Period) -> Piece:
    """Give how many servers show each build now, and what the rules say of it."""
    keys = ["build", "hop", "update", "standing", "rule", "vulnerable_from"]
    counted = (
        present(servers, policy, period)
        .group_by(keys)
        .agg(
            servers=pl.col("server").n_unique(), tenants=pl.col("tenant").n_unique(), messages=pl.col("messages").sum()
        )
        .sort("servers", "messages", "build", "hop", descending=[True, True, False, False])
        .with_columns(pl.col("build").fill_null("not given"))
    )
    return table(
        counted.select("build", "update", "standing", "rule", "vulnerable_from", "servers", "messages"),
        name="builds",
        whole=counted,
        rows=12,
        note="most servers first; a server with several builds counts in each; their messages with the build",
    )


def most_mail(servers: pl.DataFrame, policy: Policy, period: Period) -> Piece:
    """List the vulnerable servers that send the most mail, and say why they are vulnerable."""
    shown = present(servers, policy, period).filter(standing=Standing.VULNERABLE)
    of_build = shown.group_by("server", "build", "hop").agg(
        pl.col("messages").sum(), pl.exclude("messages", "route", "server", "build", "hop").first()
    )
    ranked = of_build.sort("messages", "server", "build", "hop", descending=[True, False, False, False])
    return table(
        ranked.select("server", "messages", "days_behind", "why"),
        name="vulnerable_servers",
        whole=ranked,
        rows=10,
        note="most mail first; messages of the build named, by all routes, since it was first seen",
    )
