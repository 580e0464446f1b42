"""The page of a run: one file that needs no network and runs no script but its own."""

import base64
import io
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from functools import cache
from html import unescape
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import nbformat
import polars as pl
import vl_convert
from nbconvert import TemplateExporter

from enforcement.names import printable
from enforcement.pieces import NAME_MIME, TABLE_MIME, pairs, safe, verbatim
from enforcement.report_runs import CODE, CONTENT_POLICY, EXPECTED_ERRORS, TEMPLATE, held, script_hash, write_whole
from enforcement.spreadsheet import safe_csv

_CHART_MIME: Final = "application/vnd.vegalite.v5+json"
VEGALITE: Final = "6.4"  # what the charts are written in
_HOVER: Final = "hover"
_TABLE_NAME = re.compile(r"[a-z0-9_]{1,40}")
# What `pieces` writes of an answer and of figures.
_ANSWER: Final = re.compile(r'<p class="answer">(.*?)</p>', re.DOTALL)
_FIGURE: Final = re.compile(
    r'<dt>([^<]*)</dt><dd><div class="value">([^<]*)</div><div class="of">([^<]*)</div>', re.DOTALL
)
_TAG: Final = re.compile(r"<[^>]*>")
_LONGEST_LINE: Final = 300
_LONGEST_ANSWER: Final = 900  # of three policies, with bands
_END: Final = "</figure>"


def write_page(notebook: Mapping[str, Any], record: Mapping[str, Any], folder: Path, *, bundle: str) -> Path:
    """Write the page of a notebook that has run, and its whole tables beside it."""
    shown = nbformat.from_dict(notebook)  # type: ignore[no-untyped-call]  # nbformat has no types here
    has_chart = False
    names: set[str] = set()
    for cell in shown.cells:
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if _CHART_MIME in data:
                has_chart = True
                data["text/html"] = _chart(data[_CHART_MIME])
            elif TABLE_MIME in data:
                data["text/html"] = data["text/html"].removesuffix(_END) + _whole_table(data, folder, names) + _END
    scripts = [bundle, (TEMPLATE / "page.js").read_text(encoding="utf-8")] if has_chart else []
    resources = {
        "title": _title(shown, record),
        "style": (TEMPLATE / "page.css").read_text(encoding="utf-8"),
        "content_policy": CONTENT_POLICY.format(scripts=" ".join(map(script_hash, scripts)) or "'none'"),
        "failure": record["error"],
        "n_shown": len(shown.cells) if record["error"] is None else _n_reached(shown.cells),
        "expected_errors": EXPECTED_ERRORS,
        "record_line": _record_line(record),
        "record_html": _record_box(record),
        "scripts": scripts,
    }
    html, _ = _exporter().from_notebook_node(shown, resources=resources)
    path = folder / "page.html"
    write_whole(path, html)
    return path


def _n_reached(cells: Sequence[nbformat.NotebookNode]) -> int:
    """Give how many cells a run that failed has come to: headings of what never ran would stand above nothing."""
    reached = [n for n, cell in enumerate(cells, start=1) if cell.get("execution_count") or cell.get("outputs")]
    return max(reached, default=1)


@cache
def _exporter() -> TemplateExporter:
    # Not nbconvert's exporter of HTML: it parses the page again and writes it anew, in another spelling.
    return TemplateExporter(  # type: ignore[no-untyped-call]  # nbconvert has no types here
        template_name=TEMPLATE.name, extra_template_basedirs=[str(CODE)], file_extension=".html"
    )


def javascript_bundle(cache_folder: Path) -> str:
    """Give the scripts that draw charts; making them takes seconds, so they are kept by version."""
    kept = cache_folder / f"vega-{metadata.version('vl-convert-python')}-{VEGALITE}.js"
    with held(cache_folder):  # whoever comes second waits, and takes what is there then
        if kept.is_file():
            return kept.read_text(encoding="utf-8")
        made = vl_convert.javascript_bundle(vl_version=VEGALITE)  # type: ignore[call-arg]  # its stub forgets the default
        # As the browser will read it: one kind of line end, and nothing in it ends the element.
        write_whole(kept, made.replace("\r\n", "\n").replace("</script", "<\\/script"))
    return kept.read_text(encoding="utf-8")


def _chart(spec: dict[str, Any]) -> str:
    """Put a chart's specification into the page, and a still picture for readers without scripts."""
    title = spec.get("title") or ""
    text = title if isinstance(title, str) else title.get("text", "")
    caption = " ".join(text) if isinstance(text, list) else str(text)
    drawn = {key: value for key, value in spec.items() if key != "title"} | {"description": caption}
    picture = base64.b64encode(vl_convert.vegalite_to_svg(_still(drawn), vl_version=VEGALITE).encode()).decode()
    return (
        f'<figure class="chart"><figcaption>{safe(caption)}</figcaption><div class="plot"></div>'
        f'<script type="application/json">{_embedded(drawn)}</script>'
        f'<noscript><img alt="{safe(caption)}" src="data:image/svg+xml;base64,{picture}"></noscript></figure>'
    )


def _still(spec: dict[str, Any]) -> dict[str, Any]:
    """Take out of a specification what only answers to the mouse."""
    kept = {key: value for key, value in spec.items() if key != "params"}
    if "layer" in kept:
        kept["layer"] = [layer for layer in kept["layer"] if layer.get("name") != _HOVER]
    if "spec" in kept:
        kept["spec"] = _still(kept["spec"])
    return kept


def _embedded(spec: dict[str, Any]) -> str:
    """Write JSON that no part of can end its element or begin another."""
    text = json.dumps(spec, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _whole_table(data: Mapping[str, Any], folder: Path, names: set[str]) -> str:
    """Write a table whole beside the page, and link to it."""
    name = str(data.get(NAME_MIME, ""))
    if not _TABLE_NAME.fullmatch(name):
        return ""
    while name in names:
        name += "_2"
    names.add(name)
    frame = pl.read_parquet(io.BytesIO(base64.b64decode(data[TABLE_MIME])))
    path = folder / "tables" / f"{name}.csv"
    write_whole(path, safe_csv(frame))
    return f'<p class="whole">Whole: <a href="tables/{name}.csv">{name}.csv</a>, {frame.height:,} rows</p>'


def told_by(notebook: Mapping[str, Any]) -> tuple[str | None, list[list[str]]]:
    """Give the answer that a notebook has come to, as text, and its large figures: name and value with its base."""
    shown = "".join(
        "".join(output.get("data", {}).get("text/html", ""))
        for cell in notebook["cells"]
        for output in cell.get("outputs", ())
    )
    answer = " ".join(_text_of(part) for part in _ANSWER.findall(shown))
    figures = [[_text_of(part) for part in found] for found in _FIGURE.findall(shown)]
    return answer or None, [[name, f"{value} ({of})"] for name, value, of in figures]


def _text_of(html: str) -> str:
    return " ".join(unescape(_TAG.sub("", html)).split())


def _title(notebook: nbformat.NotebookNode, record: Mapping[str, Any]) -> str:
    text = next((cell.source for cell in notebook.cells if cell.cell_type == "markdown"), "")
    heading = next((line[2:] for line in text.splitlines() if line.startswith("# ")), str(record["name"]))
    policies = ", ".join(record["policies"])
    return f"{heading} ({policies})" if policies else heading


def _record_line(record: Mapping[str, Any]) -> str:
    day = str(record["started_at"])[:10]
    return f"Enforcement workbench, {record['name']}, {day}, run {record['run']}"


def _record_box(record: Mapping[str, Any]) -> str:
    inputs = record["inputs"]
    hashes = {
        "notebook": inputs["notebook"],
        "code": inputs["code"],
        "traffic": inputs["traffic"],
        **inputs["files"],
        **inputs["catalogue"],
    }
    memory = record["peak_memory_bytes"]
    shown = {
        "run": record["run"],
        "state": record["state"],
        "began": str(record["started_at"]).replace("T", " ").replace("+00:00", " UTC"),
        "took": f"{record['seconds']:.1f} s" + (f", at most {memory / 1e6:,.0f} MB of memory" if memory else ""),
        "again": command(record),
        "versions": ", ".join(f"{name} {version}" for name, version in inputs["versions"].items()),
    }
    parameters = verbatim(json.dumps(record["parameters"], indent=2, ensure_ascii=False))
    listed = verbatim("\n".join(f"{sha256}  {what}" for what, sha256 in hashes.items()))
    return (
        f"{pairs(shown).html}<details><summary>parameters and hashes (SHA-256) of what this page rests on</summary>"
        f"{parameters.html}{listed.html}</details>"
    )


def command(record: Mapping[str, Any]) -> str:
    r"""Give the command that makes a run's page again.

    >>> command({"name": "03_replay", "parameters": {"store": "s.duckdb", "to_on": None, "policies": ["gentler"]}})
    'enforcement report 03_replay --store s.duckdb -p policies \'["gentler"]\''
    """
    words = ["enforcement", "report", str(record["name"])]
    for key, value in record["parameters"].items():
        if key == "store":
            words += ["--store", value]
        elif value is not None and key != "run":
            words += ["-p", key, value if isinstance(value, str) else json.dumps(value)]
    return shlex.join(words)


def one_line(text: str, longest: int = _LONGEST_LINE) -> str:
    """Cut an error to a line that a record and an index can show."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= longest else line[: longest - 1] + "…"


def answer_line(answer: str | None) -> str | None:
    """Cut an answer to what a record, an index and a mail can show."""
    return None if answer is None else one_line(answer, _LONGEST_ANSWER)
