"""The page and the table that an organisation's administrators get: one file each, no script, nothing of others."""

from html import escape
from typing import Final

import polars as pl

from enforcement.picture_tables import stage_name
from enforcement.pieces import Figure, Piece, figures, listed, pairs, plural, said, table
from enforcement.policy import Policy
from enforcement.tenant_report import TenantReports, how_to_be_removed

_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'">
<title>{title}</title>
<style>{style}</style>
</head>
<body><main>
{body}
</main></body>
</html>
"""  # noqa: E501 - the policy is one line


def tenant_page(of: TenantReports, tenant: str, *, style: str, strip: str) -> str:
    """Write the page of a tenant; `strip` is the policy's schedule as a picture, an address of data."""
    rows = of.of(tenant)
    title = f"Out-of-date servers of {tenant}"
    pieces = [
        Piece(f'<p class="run">{escape(of.policy.export.service_name)}, as of {of.as_of} (UTC)</p>', ""),
        Piece(f"<h1>{said('{t}', t=title).html.removeprefix('<p>').removesuffix('</p>')}</h1>", ""),
        _answer(of, tenant, rows),
    ]
    if rows.height:
        pieces += [
            _figures(of, tenant, rows),
            _heading("What to do"),
            listed([*_advice(rows), said("{how}", how=how_to_be_removed(of.policy))]),
            _heading("Your servers"),
            _servers(rows),
            _heading("What it rests on"),
            _proofs(rows),
        ]
    pieces += [
        _heading("What happens to a server that stays out of date"),
        Piece(f'<figure><img alt="{escape(_strip_in_words(of.policy))}" src="{strip}"></figure>', ""),
        _stages(of.policy),
        _heading("Pausing"),
        _pausing(of, tenant),
        _heading("About this page"),
        _about(of, tenant),
    ]
    body = "\n".join(piece.html for piece in pieces)
    plain = said("{t}", t=title).html.removeprefix("<p>").removesuffix("</p>")
    return _PAGE.format(title=plain, style=style, body=body)


def _heading(words: str) -> Piece:
    return Piece(f"<h2>{escape(words)}</h2>", words)


def _answer(of: TenantReports, tenant: str, rows: pl.DataFrame) -> Piece:
    seen = of.n_seen.get(tenant, 0)
    if rows.is_empty():
        piece = said("On {day}, none of the {n} servers seen of {t} is out of date: nothing is to be done.",
                     day=of.as_of, n=seen, t=tenant)  # fmt: skip
    else:
        listed_servers = rows["server"].n_unique()
        first = rows.filter(pl.col("next_on").is_not_null()).sort("next_on", "server").head(1)
        next_words = [
            f"The next change is on {row['next_on']}, when {row['server']} comes to stage {row['next_stage']} "
            f"({row['next_phase']})"
            for row in first.iter_rows(named=True)
        ]
        piece = said(
            "On {day}, {b_n} of {t} {run} a version that is out of date, and {touched}. {then}.",
            day=of.as_of,
            b_n=plural(listed_servers, "server"),
            t=tenant,
            run="runs" if listed_servers == 1 else "run",
            touched=_touched(rows),
            then=next_words[0] if next_words else "No further change is due",
        )
    return Piece(piece.html.replace("<p>", '<p class="answer">', 1), piece.text)


def _touched(rows: pl.DataFrame) -> str:
    throttled, blocked = _longest(rows, "throttle_minutes"), _longest(rows, "block_minutes")
    if not throttled and not blocked:
        return "no mail is delayed or refused yet"
    parts = [
        f"{word} for up to {minutes} min" for minutes, word in ((blocked, "refused"), (throttled, "delayed")) if minutes
    ]
    return f"mail is {' and '.join(parts)} of each hour"


def _longest(rows: pl.DataFrame, column: str) -> int:
    running: list[int] = rows.filter(pl.col("clock_runs").fill_null(value=False))[column].drop_nulls().to_list()
    return max(running, default=0)


def _figures(of: TenantReports, tenant: str, rows: pl.DataFrame) -> Piece:
    left: list[int] = rows["days_to_next_stage"].drop_nulls().to_list()
    used, room = of.pause_used.get(tenant, 0), of.pause_left(tenant)
    return figures(
        [
            Figure(what="servers out of date", value=f"{rows['server'].n_unique():,}",
                   of=f"of {max(of.n_seen.get(tenant, 0), rows['server'].n_unique()):,} servers seen"),
            Figure(what="days to the next stage", value=f"{min(left):,}" if left else "none",
                   of="of the server that comes to one first"),
            Figure(what="minutes delayed", value=f"{_longest(rows, 'throttle_minutes')} min",
                   of="of each hour, at the hardest hit server"),
            Figure(what="minutes refused", value=f"{_longest(rows, 'block_minutes')} min",
                   of="of each hour, at the hardest hit server"),
            Figure(what="pause days left", value=f"{room:,}", of=f"in {of.as_of.year}; {used:,} used"),
        ]
    )  # fmt: skip


def _advice(rows: pl.DataFrame) -> list[Piece]:
    """Say what to install, once for servers that need the same."""
    grouped = rows.group_by("recommended_builds", maintain_order=True).agg(pl.col("server").unique(maintain_order=True))
    return [
        said(
            "{b_servers}: install {one}{builds}.",
            b_servers=_some(servers),
            one="one of: " if "; " in builds else "",
            builds=builds,
        )
        if not builds.startswith("none")
        else said("{b_servers}: no release is accepted any more; retire it, or take it out of the mail path.",
                  b_servers=_some(servers))
        for builds, servers in grouped.iter_rows()
    ]  # fmt: skip


def _some(servers: list[str]) -> str:
    shown = ", ".join(servers[:5])
    return shown if len(servers) <= 5 else f"{shown} and {len(servers) - 5:,} more"


def _servers(rows: pl.DataFrame) -> Piece:
    minutes = pl.format("{} / {}", pl.col("throttle_minutes").fill_null(0), pl.col("block_minutes").fill_null(0))
    shown = rows.select(
        "server",
        "build",
        first_detected=pl.col("first_detected_on"),
        stage=pl.when(pl.col("stage").is_null())
        .then(pl.lit("not yet"))
        .when(pl.col("clock_runs"))
        .then(pl.format("{}: {}", "stage", "phase"))
        .otherwise(pl.format("{}: {}, paused", "stage", "phase")),
        minutes=pl.when(pl.col("clock_runs").fill_null(value=True)).then(minutes).otherwise(pl.lit("0 / 0")),
        next_stage=pl.format("{}: {}", "next_stage", "next_phase"),
        on=pl.col("next_on"),
        days_left=pl.col("days_to_next_stage"),
    )
    note = "minutes of each hour: delayed / refused; the table beside this page (CSV) has every column"
    return table(shown, name="servers", rows=200, note=note)


def _proofs(rows: pl.DataFrame) -> Piece:
    shown = rows.select(
        "server",
        "build",
        "hop",
        proves=pl.col("update"),
        how_sure=pl.col("proof"),
        rule=pl.col("rule"),
        out_of_date_since=pl.col("vulnerable_from"),
        last_seen=pl.col("last_seen_on"),
    )
    note = "a number proves at least this; what it cannot show is not held against a server"
    return table(shown, name="proofs", rows=200, note=note)


def _stages(policy: Policy) -> Piece:
    until = [*policy.stage_starts[1:], None]
    rows = [
        {"from_day": start, "to_day": None if end is None else end - 1, "what": stage_name(policy, number)}
        for number, (start, end) in enumerate(zip(policy.stage_starts, until, strict=True))
    ]
    frame = pl.DataFrame(rows, schema={"from_day": pl.Int64, "to_day": pl.Int64, "what": pl.String})
    return table(frame, name="stages", rows=len(rows), note="days on the server's clock, which stands still in a pause")


def _strip_in_words(policy: Policy) -> str:
    return "; ".join(
        f"from day {start}: {stage_name(policy, number)}" for number, start in enumerate(policy.stage_starts)
    )


def _pausing(of: TenantReports, tenant: str) -> Piece:
    if of.policy.pause is None or not of.policy.pause.days_per_year:
        return said("This policy grants no pauses.")
    return said(
        "You may ask for up to {quota} days of pause a calendar year. In {year}, {used} were used until {day}{ahead} "
        "and {b_left} are left. In a pause no mail is delayed or refused and the clock stands still; then it goes on "
        "where it stood.",
        quota=of.policy.pause.days_per_year,
        year=of.as_of.year,
        used=plural(of.pause_used.get(tenant, 0), "day"),
        day=of.as_of,
        ahead=_ahead(of, tenant),
        b_left=plural(of.pause_left(tenant), "day"),
    )


def _ahead(of: TenantReports, tenant: str) -> str:
    later = of.pause_granted.get(tenant, 0) - of.pause_used.get(tenant, 0)
    return f", {later:,} more {'is' if later == 1 else 'are'} granted for later," if later else ""


def _about(of: TenantReports, tenant: str) -> Piece:
    shown: dict[str, object] = {
        "tenant": tenant,
        "as of": f"{of.as_of}, from mail received until then",
        "policy": of.policy.title or of.policy.name,
    }
    if of.policy.notice is not None:
        shown["announcement"] = of.policy.notice.announcement_url
    return pairs(shown)
