"""What a replay says in words, figures and tables, for people who decide about a policy."""

from collections.abc import Sequence
from typing import Final

import polars as pl

from enforcement.comparison import Comparison, Named
from enforcement.pieces import (
    Figure,
    Piece,
    count,
    difference,
    figures,
    in_words,
    plural,
    said,
    share,
    table,
    together,
)
from enforcement.policy import Policy
from enforcement.replay import OVER_A_TENTH_LOST, Replay

_STATES: Final = {"pass": "✓ pass", "fail": "✗ fail", "inconclusive": "? inconclusive"}


def answer(compared: Comparison) -> Piece:
    """Say in two sentences what the policies would have done to the mail of the period."""
    first = compared.first
    replay, totals = first.replay, first.replay.totals
    n_days = (replay.period.to_on - replay.period.from_on).days + 1
    if not totals["subject"]:
        sentences = [
            said(
                "Over {days} {b_name} would have touched none of the {n} messages in scope: {why}.",
                days=plural(n_days, "day"),
                b_name=first.name,
                n=count(totals["in_scope"]),
                why=_why_nothing(replay),
            )
        ]
    else:
        sentences = [
            said(
                "Over {days} ({from_on} to {to_on}) {b_name} would have delayed {delayed} and lost {lost} of the "
                "{n} messages read; {half}.",
                days=plural(n_days, "day"),
                from_on=replay.period.from_on,
                to_on=replay.period.to_on,
                b_name=first.name,
                delayed=share(totals["delayed"], totals["read"]),
                lost=share(totals["lost"], totals["read"]),
                n=count(totals["read"]),
                half=_half_of_the_loss(replay),
            )
        ]
    others = [each for each in compared.all if each is not first]
    sentences += [
        said(
            "{b_name}{role} would have delayed {delayed} and lost {lost}.",
            b_name=each.name,
            role=", the baseline," if each.is_baseline else "",
            delayed=share(each.replay.totals["delayed"], each.replay.totals["read"]),
            lost=share(each.replay.totals["lost"], each.replay.totals["read"]),
        )
        for each in others
    ]
    return _paragraph(sentences, kind="answer")


def _paragraph(sentences: Sequence[Piece], *, kind: str) -> Piece:
    inner = " ".join(sentence.html.removeprefix("<p>").removesuffix("</p>") for sentence in sentences)
    return Piece(f'<p class="{kind}">{inner}</p>', " ".join(sentence.text for sentence in sentences))


def _why_nothing(replay: Replay) -> str:
    reasons = [f"{count(messages)} {why}" for why, messages in replay.untouched.iter_rows()]
    return "; ".join(reasons) or "there is no mail"


def _half_of_the_loss(replay: Replay) -> str:
    """Say how few tenants carry half of what is lost."""
    lost = replay.tenants.filter(pl.col("lost") > 0).sort("lost", descending=True)["lost"]
    if lost.is_empty():
        return "no tenant loses any mail"
    n_half = int((lost.cum_sum() < lost.sum() / 2).sum()) + 1
    if lost.len() == 1:
        return "one tenant carries all of the loss"
    carry = "carries" if n_half == 1 else "carry"
    return f"{in_words(n_half)} of the {lost.len():,} tenants that lose mail {carry} half of the loss"


def five_figures(compared: Comparison) -> Piece:
    """Give the first policy's five figures, each with its base and its difference from the baseline."""
    replay, totals = compared.first.replay, compared.first.replay.totals
    than, before = compared.baseline_name, compared.baseline_total
    read = f"of {count(totals['read'])} messages read"
    n_lossy = replay.tenants.filter(pl.col("lost") > 0).height
    late = replay.delay_minutes
    shown = [
        Figure(
            what="delivered late",
            value=share(totals["delayed"], totals["read"]),
            of=f"{count(totals['delayed'])} {read}",
            difference=difference(totals["delayed"], before("delayed"), than=than),
        ),
        Figure(
            what="lost",
            value=share(totals["lost"], totals["read"]),
            of=f"{count(totals['lost'])} {read}: rejected {count(totals['rejected'])}, "
            f"expired {count(totals['expired'])}",
            difference=difference(totals["lost"], before("lost"), than=than),
        ),
        Figure(
            what="risk left",
            value=share(totals["accepted_vulnerable"], totals["vulnerable"]),
            of=f"{count(totals['accepted_vulnerable'])} of {count(totals['vulnerable'])} messages of vulnerable builds "
            "are delivered all the same",
            difference=difference(totals["accepted_vulnerable"], before("accepted_vulnerable"), than=than),
        ),
        Figure(
            what="tenants that lose mail",
            value=f"{n_lossy:,}",
            of=f"of {replay.tenants.height:,} tenants; {_over_a_tenth(replay.tenants):,} lose more than a tenth",
            difference=difference(n_lossy, _n_lossy(compared), than=than),
        ),
        Figure(
            what="delay of 95 % at most",
            value=f"{late['p95']:,.0f} min" if late["p95"] is not None else "none late",
            of=f"of {count(totals['delayed'])} delayed messages; {_mean(late['mean'])}"
            f"{count(replay.delay_notices)} more than 4 h late",
        ),
    ]
    return figures(shown)


def _mean(mean: float | None) -> str:
    return "" if mean is None else f"{mean:,.1f} min on average, "


def _over_a_tenth(hit: pl.DataFrame) -> int:
    return hit.filter(OVER_A_TENTH_LOST).height


def _n_lossy(compared: Comparison) -> int:
    if compared.baseline is None:
        return 0
    return compared.baseline.replay.tenants.filter(pl.col("lost") > 0).height


def side_by_side(compared: Comparison) -> Piece:
    """Give a table of all policies compared: messages, what became of them, who was hit."""
    rows = pl.DataFrame([_row(each) for each in compared.all])
    names = [f"{each.name} (baseline)" if each.is_baseline else each.name for each in compared.all]
    turned = rows.transpose(include_header=True, header_name="measure", column_names=names)
    measures = {each.replay.risk_by for each in compared.all}
    rules = f"what the rules of {min(measures)} call" if len(measures) == 1 else "what each policy's own rules call"
    note = f"in messages where nothing else is said; shares of all mail read; risk left counts {rules} vulnerable"
    whole = rows.insert_column(0, pl.Series("policy", names))
    return table(turned, name="policies", whole=whole, rows=len(turned), note=note)


def _row(each: Named) -> dict[str, str]:
    replay, totals = each.replay, each.replay.totals
    base = totals["read"]
    return {
        "mail read": count(totals["read"]),
        "in scope": count(totals["in_scope"]),
        "subject": f"{count(totals['subject'])} ({share(totals['subject'], base)})",
        "at once": f"{count(totals['at_once'])} ({share(totals['at_once'], base)})",
        "delayed": f"{count(totals['delayed'])} ({share(totals['delayed'], base)})",
        "rejected": f"{count(totals['rejected'])} ({share(totals['rejected'], base)})",
        "expired": f"{count(totals['expired'])} ({share(totals['expired'], base)})",
        "risk left": f"{count(totals['accepted_vulnerable'])} ({share(totals['accepted_vulnerable'], base)})",
        "servers touched": f"{replay.servers.filter(pl.col('subject') > 0).height:,} of {replay.servers.height:,}",
        "tenants with mail lost": f"{replay.tenants.filter(pl.col('lost') > 0).height:,} of {replay.tenants.height:,}",
        "tenants that lose over a tenth": f"{_over_a_tenth(replay.tenants):,} of {replay.tenants.height:,}",
        "delay, half of the delayed at most": _minutes(replay.delay_minutes["p50"]),
        "delay, 95 % of the delayed at most": _minutes(replay.delay_minutes["p95"]),
    }


def _minutes(minutes: float | None) -> str:
    return "none delayed" if minutes is None else f"{minutes:,.0f} min"


def by_stage(compared: Comparison) -> Piece:
    """Give what became of the first policy's subject messages in each stage."""
    stages = pl.concat(
        each.replay.by_stage.select(
            pl.lit(each.name).alias("policy"), "stage", "phase", "messages", "at_once", "delayed", "rejected", "expired"
        )
        for each in compared.all
    )
    first = stages.filter(policy=compared.first.name).drop("policy")
    return table(_counts(first), name="stages", whole=stages, rows=len(first), note=f"policy {compared.first.name}")


def _counts(frame: pl.DataFrame) -> pl.DataFrame:
    """Round expected values, so that a table shows whole messages."""
    return frame.with_columns(pl.col(pl.Float64).round().cast(pl.Int64))


def products_hit(compared: Comparison) -> Piece:
    """Give what the first policy does to the mail of each product."""
    of_product = (
        compared.first.replay.by_group.group_by("product")
        .agg(pl.col("read", "vulnerable", "subject", "delayed", "lost", "accepted_vulnerable").sum())
        .sort("lost", "delayed", "product", descending=[True, True, False])
    )
    shown = _with_lost_share(_counts(of_product)).rename({"read": "mail read", "accepted_vulnerable": "risk left"})
    note = f"policy {compared.first.name}; lost share of the mail read"
    return table(shown, name="products", whole=of_product, rows=len(shown), note=note)


def tenants_hit(compared: Comparison) -> Piece:
    """List the tenants that the first policy hits hardest."""
    return _hit(compared, "tenant", ["tenant", "n_servers_subject", "read", "delayed", "lost"])


def servers_hit(compared: Comparison) -> Piece:
    """List the servers that the first policy hits hardest."""
    return _hit(compared, "server", ["server", "tenant", "read", "delayed", "lost"])


def _hit(compared: Comparison, unit: str, columns: list[str]) -> Piece:
    frames = [
        (each.replay.tenants if unit == "tenant" else each.replay.servers).with_columns(policy=pl.lit(each.name))
        for each in compared.all
    ]
    first = frames[1 if compared.baseline else 0].filter((pl.col("lost") > 0) | (pl.col("delayed") > 0))
    shown = _with_lost_share(_counts(first.select(columns)))
    renamed = {"read": "mail read", "n_servers_subject": "servers touched"}
    note = f"policy {compared.first.name}, hardest hit first; lost share of the mail read"
    whole = pl.concat(frames)
    return table(
        shown.rename({old: new for old, new in renamed.items() if old in columns}),
        name=f"{unit}s_hit",
        whole=whole.select("policy", *(name for name in whole.columns if name not in ("policy", "server_id"))),
        rows=10,
        note=note,
    )


def _with_lost_share(frame: pl.DataFrame) -> pl.DataFrame:
    shares = [share(lost, read) for lost, read in frame.select("lost", "read").iter_rows()]
    return frame.with_columns(pl.Series("lost_share", shares, dtype=pl.String))


def guardrails(compared: Comparison) -> Piece:
    """Say for each policy which of its guardrails hold."""
    without = [each for each in compared.all if each.replay.guardrails.is_empty()]
    rows = [
        {"policy": each.name, **_guardrail(row)}
        for each in compared.all
        for row in each.replay.guardrails.iter_rows(named=True)
    ]
    pieces = []
    if rows:
        pieces.append(table(pl.DataFrame(rows, infer_schema_length=None), name="guardrails", rows=len(rows)))
    if without:
        names = ", ".join(each.name for each in without)
        pieces.append(
            said("{b_names} {sets} no guardrail.", b_names=names, sets="sets" if len(without) == 1 else "set")
        )
    return together(pieces) if len(pieces) > 1 else pieces[0]


def _per(row: dict[str, object]) -> str:
    return "in total" if row["per"] == "total" else f"per {row['per']}"


def _guardrail(row: dict[str, object]) -> dict[str, str]:
    """Put one guardrail in words."""
    measure, _, base = str(row["measure"]).partition("_share_of_")
    worst = row["worst_share"]
    unit = f" ({row['worst_unit']})" if row["per"] != "total" else ""
    return {
        "state": _STATES[str(row["state"])],
        "bound": f"{measure.replace('_', ' ')}: at most {_percent(row['at_most'])} of "
        f"{'all mail' if base == 'mail' else 'the subject mail'}, {_per(row)}",
        "worst": "none judged" if worst is None else f"{_percent(worst)}{unit}",
        "over the bound": f"{row['n_exceeded']:,} of {row['n_judged']:,} judged",
        "judged": f"{row['n_judged']:,} of {row['n_units']:,}; "
        f"{_percent(row['unjudged_share'])} of the mail not judged",
    }


def _percent(number: object) -> str:
    return f"{100 * float(str(number)):.4g}\N{NO-BREAK SPACE}%"


def policies(compared: Comparison) -> dict[str, Policy]:
    """Give the policies by the names that charts show."""
    return {f"{each.name} (baseline)" if each.is_baseline else each.name: each.replay.policy for each in compared.all}
