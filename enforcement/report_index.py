"""The index of all runs: a list to filter, failures in plain sight, two runs side by side; no network, one file."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from enforcement.report_runs import (
    CONTENT_POLICY,
    HEAD,
    INDEX_NAME,
    PAGE_NAME,
    TEMPLATE,
    State,
    all_records,
    held,
    script_hash,
    text,
    write_whole,
)

_Run = tuple[str, Mapping[str, Any]]  # where it lies, seen from the index, and its record
_MOST_SHOWN: Final = 400  # letters of a value, side by side
_LONG_HASH: Final = 64


def write_index(out: Path) -> Path:
    """Write the page that lists all runs."""
    out.mkdir(parents=True, exist_ok=True)
    with held(out):
        runs = [(folder.relative_to(out).as_posix(), record) for folder, record in all_records(out)]
        write_whole(out / INDEX_NAME, index_page(runs))
    return out / INDEX_NAME


def index_page(runs: Sequence[_Run]) -> str:
    """Write the page of some runs, the newest first."""
    script = (TEMPLATE / "runs.js").read_text(encoding="utf-8")
    # The pages shown side by side lie beside this one.
    policy = CONTENT_POLICY.format(scripts=script_hash(script)) + "; frame-src 'self' file:"
    return _INDEX.format(
        head=HEAD.format(policy=policy),
        style=(TEMPLATE / "page.css").read_text(encoding="utf-8") + (TEMPLATE / "runs.css").read_text(encoding="utf-8"),
        failures=_failures(runs),
        filters=_filters(runs),
        rows="".join(_row(number, where, record) for number, (where, record) in enumerate(runs)),
        n=f"{len(runs):,}",
        told=_embedded([_told(where, record) for where, record in runs]),
        script=script,
    )


def _failures(runs: Sequence[_Run]) -> str:
    """Say which reports failed when they ran last; what failed before and is done now is in the list alone."""
    newest: dict[str, _Run] = {}
    for where, record in runs:
        newest.setdefault(str(record.get("name")), (where, record))
    failed = [run for run in newest.values() if run[1]["state"] == State.FAILED]
    if not failed:
        return ""
    items = "".join(
        f'<li><a href="{_href(where)}">{text(record.get("name"))}</a>, {_when(record)}: {_error(record)}</li>'
        for where, record in failed
    )
    what = "One report" if len(failed) == 1 else f"{len(failed)} reports"
    return f'<div class="failure"><b>{what} failed when last run.</b><ul>{items}</ul></div>'


def _filters(runs: Sequence[_Run]) -> str:
    names = sorted({str(record.get("name")) for _, record in runs})
    policies = sorted({str(policy) for _, record in runs for policy in record.get("policies") or ()})
    states = [state for state in State if any(record["state"] == state for _, record in runs)]
    choices = (("name", "report", names), ("policy", "policy", policies), ("state", "state", states))
    boxes = "".join(
        f'<label>{word} <select data-filter="{key}"><option value="">all</option>'
        + "".join(f'<option value="{text(value)}">{text(value)}</option>' for value in values)
        + "</select></label>"
        for key, word, values in choices
    )
    days = "".join(
        f'<label>{word} <input type="date" data-filter="{key}"></label>'
        for key, word in (("from", "began from"), ("until", "until"))
    )
    return f'<div class="filters" role="group" aria-label="Which runs are listed">{boxes}{days}</div>'


def _row(number: int, where: str, record: Mapping[str, Any]) -> str:
    state, name = str(record["state"]), text(record.get("name"))
    policies = [str(policy) for policy in record.get("policies") or ()]
    answer = record.get("answer")
    said = _error(record) if record.get("error") else text(str(answer)) if answer else ""
    cells = (
        (
            f'<label class="pick"><input type="checkbox" data-pick="{number}"> <span class="unseen">compare {name}, '
            f"{_when(record)}, run {text(_last(where))}</span></label>"
        ),
        f'<a href="{_href(where)}">{name}</a>',
        ", ".join(map(text, policies)),
        f'<span class="state {state}">{state}</span>',
        said,
        _when(record),
        _seconds(record.get("seconds")),
        f"<code>{text(_last(where))}</code>",
    )
    data = {"name": record.get("name"), "state": state, "day": str(record.get("started_at", ""))[:10]}
    told = "".join(f' data-{key}="{text(value)}"' for key, value in data.items())
    listed = text(json.dumps(policies))
    return f'<tr{told} data-policies="{listed}">' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>\n"


def _told(where: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """Give what is shown of a run side by side with another: groups of names and values, all of them texts."""
    inputs = record.get("inputs")
    known = inputs if isinstance(inputs, dict) else {}
    hashes = {key: value for key, value in known.items() if isinstance(value, str) and key != "versions"}
    for group in ("files", "catalogue"):
        hashes |= known[group] if isinstance(known.get(group), dict) else {}
    parameters, versions = record.get("parameters"), known.get("versions")
    figures = [each for each in record.get("figures") or () if isinstance(each, list) and len(each) == 2]
    run = {
        "report": record.get("name"),
        "state": record["state"],
        "error": record.get("error"),
        "began": _when(record),
        "took": _seconds(record.get("seconds")),
        "run": _last(where),
    }
    return {
        "where": _href(where),
        "title": f"{record.get('name')}, {_when(record)}",
        "groups": {
            "The run": _texts(run),
            "What it says": _texts({"answer": record.get("answer")}) | _texts(dict(figures)),
            "Parameters": _texts(parameters if isinstance(parameters, dict) else {}),
            "What it rests on": _texts(hashes),
            "Versions": _texts(versions if isinstance(versions, dict) else {}),
        },
    }


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Write values as texts, as a script will set them; what is empty is left out, a hash is cut."""
    return {
        str(key)[:_MOST_SHOWN]: shown[:16] + "…" if len(shown) == _LONG_HASH else _cut(shown)
        for key, value in values.items()
        if value not in (None, "", [])
        for shown in [value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)]
    }


def _cut(shown: str) -> str:
    return shown if len(shown) <= _MOST_SHOWN else shown[:_MOST_SHOWN] + "…"


def _embedded(told: object) -> str:
    """Write JSON that no part of can end its element or begin another."""
    written = json.dumps(told, separators=(",", ":"))
    return written.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _href(where: str) -> str:
    return f"{text(quote(where))}/{PAGE_NAME}"


def _last(where: str) -> str:
    return where.rpartition("/")[2]


def _error(record: Mapping[str, Any]) -> str:
    return text((str(record.get("error") or "no reason is known").splitlines() or [""])[0])


def _when(record: Mapping[str, Any]) -> str:
    return text(str(record.get("started_at", "")).replace("T", " ").replace("+00:00", " UTC"))


def _seconds(value: object) -> str:
    return f"{value:.1f}\N{NO-BREAK SPACE}s" if isinstance(value, int | float) else ""


_INDEX: Final = """{head}<title>Reports of the enforcement workbench</title>
<style>{style}</style>
</head>
<body><main class="wide">
<h1>Reports</h1>
{failures}
<p>Every run, the newest first. A page works without a network; its folder holds its record, its tables and the
notebook that made it. Choose two runs to see them side by side.</p>
{filters}
<p class="listed" role="status"><span id="shown">{n}</span> of {n} runs are listed.</p>
<figure class="table"><div class="scroll" tabindex="0" role="region" aria-label="Runs"><table id="runs">
<thead><tr><th scope="col"><span class="unseen">compare</span></th><th scope="col">report</th>
<th scope="col">policies</th><th scope="col">state</th><th scope="col">what it says</th><th scope="col">began</th>
<th scope="col">took</th><th scope="col">run</th></tr></thead>
<tbody>
{rows}</tbody></table></div></figure>
<section id="beside" hidden aria-labelledby="beside-heading"><h2 id="beside-heading" tabindex="-1">Side by side</h2>
<div id="facts"></div><div id="pages"></div></section>
</main>
<script type="application/json" id="told">{told}</script>
<script>{script}</script>
</body>
</html>
"""
