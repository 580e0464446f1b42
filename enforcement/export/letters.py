"""A letter in two forms, Markdown and HTML; whatever comes from outside is shown as it is and is never markup."""

import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import quote

from enforcement.names import printable
from enforcement.policy import Policy

_SIGNS = re.compile(r"[!-/:-@\[-`{-~]")  # what Markdown may take for markup can have a backslash: CommonMark 2.4
_BACKTICKS = re.compile(r"`+")
# Every sign that an address may have but those that end a link in Markdown or HTML.
_OF_ADDRESS: Final = "!#$%&*+,-./:;=?@_~"
_STYLE: Final = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: #1f2933; font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", Arial, sans-serif; }
main { max-width: 52rem; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; }
h1 { font-size: 1.75rem; line-height: 1.25; margin: 0 0 1rem; }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 2.25rem 0 .5rem; }
p, ul { margin: 0 0 1rem; overflow-wrap: anywhere; }
li { margin: 0 0 .35rem; }
a { color: #00538a; }
code { font: .9em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; background: #f5f7f9; padding: .05em .25em;
  border-radius: 3px; overflow-wrap: anywhere; white-space: pre-wrap; }
.answer { font-size: 1.15rem; }
.scroll { overflow-x: auto; margin: 0 0 1rem; }
table { border-collapse: collapse; font-size: .9375rem; line-height: 1.4; width: 100%;
  font-variant-numeric: tabular-nums; }
th { text-align: left; vertical-align: bottom; border-bottom: 2px solid #1f2933; }
td { border-bottom: 1px solid #d9dfe5; vertical-align: top; }
th, td { padding: .4rem 1rem .4rem 0; }
td { overflow-wrap: anywhere; }
td:first-child, td:first-child code { white-space: nowrap; }
figure { margin: 0 0 1rem; }
figcaption { color: #52606d; font-size: .875rem; }
svg { display: block; width: 100%; height: auto; }
@media (max-width: 40rem) { main { padding: 1.25rem 1rem 3rem; } td { min-width: 7rem; } }
@media print { body { font-size: 11pt; } }
"""


class Code(NamedTuple):
    """A text from outside, shown letter by letter: a name, a build, a reply."""

    text: str


class Plain(NamedTuple):
    """A text from outside that reads as one of our words, e.g. the name of a service."""

    text: str


class Link(NamedTuple):
    """An address that a policy names."""

    address: str


Value: TypeAlias = Code | Plain | Link


class Line(NamedTuple):
    """A sentence of ours with values in the places of `{}`; it is trusted, what is filled in is not."""

    words: str
    values: tuple[Value, ...] = ()

    @property
    def markdown(self) -> str:
        return self.words.format(*map(_markdown, self.values))

    @property
    def html(self) -> str:
        return escape(self.words, quote=False).format(*map(_html, self.values))


class Heading(NamedTuple):
    line: Line
    level: int = 2


class Paragraph(NamedTuple):
    line: Line
    kind: str = ""


class Items(NamedTuple):
    lines: Sequence[Line]


class Grid(NamedTuple):
    head: Sequence[str]
    rows: Sequence[Sequence[Line]]


class Strip(NamedTuple):
    """The schedule as a picture, for HTML; in Markdown the table beside it says the same."""

    policy: Policy


Block: TypeAlias = Heading | Paragraph | Items | Grid | Strip


def line(words: str, *values: Value) -> Line:
    r"""Make a sentence; texts from outside go in as values.

    >>> line("Mail of {}.", Code("a`b|<i>")).markdown, line("Mail of {}.", Code("a`b|<i>")).html
    ('Mail of ``a`b|<i>``.', 'Mail of <code>a`b|&lt;i&gt;</code>.')
    >>> line("Mail to {}.", Plain("*x*")).markdown
    'Mail to \\*x\\*.'
    """
    return Line(words, values)


def _markdown(value: Value) -> str:
    """Write a code span, in which nothing is markup, with a fence longer than any in it (CommonMark 6.1)."""
    if isinstance(value, Link):
        return f"<{_address(value)}>"
    if isinstance(value, Plain):
        return _SIGNS.sub(r"\\\g<0>", printable(value.text))
    text = printable(value.text) or " "
    fence = "`" * (1 + max((len(run) for run in _BACKTICKS.findall(text)), default=0))
    pad = " " if text[0] in "` " or text[-1] in "` " else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _html(value: Value) -> str:
    if isinstance(value, Link):
        address = escape(_address(value))
        return f'<a href="{address}" rel="noreferrer">{address}</a>'
    text = escape(printable(value.text))
    return text if isinstance(value, Plain) else f"<code>{text}</code>"


def _address(link: Link) -> str:
    r"""Give an address of the web in which nothing ends a link.

    >>> _address(Link("https://x.example/?a=1&b=%20'\"><script>"))
    'https://x.example/?a=1&b=%20%27%22%3E%3Cscript%3E'
    """
    if not link.address.startswith(("https://", "http://")):
        raise ValueError(f"no address of the web: {link.address[:80]!r} (expected https://…)")
    return quote(link.address, safe=_OF_ADDRESS)


def as_markdown(blocks: Iterable[Block]) -> str:
    """Write a letter as Markdown (CommonMark, with GitHub's tables)."""
    return "\n".join(part for block in blocks for part in _block_in_markdown(block)) + "\n"


def _block_in_markdown(block: Block) -> list[str]:
    if isinstance(block, Heading):
        return [f"{'#' * block.level} {block.line.markdown}", ""]
    if isinstance(block, Paragraph):
        return [block.line.markdown, ""]
    if isinstance(block, Items):
        return [*(f"- {each.markdown}" for each in block.lines), ""]
    if isinstance(block, Grid):
        # A cell ends at a bar even inside a code span, unless it is escaped (GitHub's specification, 4.10).
        rows = [" | ".join(each.markdown.replace("|", "\\|") for each in row) for row in block.rows]
        head = [f"| {' | '.join(block.head)} |", f"|{' --- |' * len(block.head)}"]
        return [*head, *(f"| {row} |" for row in rows), ""]
    return []


def as_html(blocks: Iterable[Block], *, title: str) -> str:
    """Write a letter as a page of its own: no script, no request to any host."""
    body = "\n".join(_block_in_html(block) for block in blocks)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(printable(title))}</title>\n<style>{_STYLE}</style></head>\n<body><main>\n{body}\n"
        "</main></body></html>\n"
    )


def _block_in_html(block: Block) -> str:
    if isinstance(block, Heading):
        return f"<h{block.level}>{block.line.html}</h{block.level}>"
    if isinstance(block, Paragraph):
        return f"<p{f' class={block.kind}' if block.kind else ''}>{block.line.html}</p>"
    if isinstance(block, Items):
        return f"<ul>{''.join(f'<li>{each.html}</li>' for each in block.lines)}</ul>"
    if isinstance(block, Grid):
        head = "".join(f'<th scope="col">{escape(each)}</th>' for each in block.head)
        rows = "".join(f"<tr>{''.join(f'<td>{each.html}</td>' for each in row)}</tr>" for row in block.rows)
        return (
            f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
        )
    return strip(block.policy)


_WIDTH: Final = 700
_TOP, _HEIGHT = 34, 90  # where the hour begins, and its height for 60 minutes
_THROTTLED, _BLOCKED = "#E69F00", "#D55E00"  # Okabe and Ito: the colours of every page


def strip(policy: Policy) -> str:
    """Draw the schedule: days on the clock to the right, the throttled and blocked minutes of each hour upwards."""
    starts = list(policy.stage_starts)
    last = max(starts[-1] * 0.15, 10)  # the last stage has no end: it gets a share of the width
    scale = _WIDTH / (starts[-1] + last)
    ends = [*starts[1:], starts[-1] + last]
    parts = []
    for number, (stage, begin, end) in enumerate(zip(policy.stages, starts, ends, strict=True), start=1):
        x, width = begin * scale, (end - begin) * scale
        blocked, throttled = stage.block * _HEIGHT / 60, stage.throttle * _HEIGHT / 60
        foot = _TOP + _HEIGHT
        middle, place = x + width / 2, "start" if begin == 0 else "middle"
        parts += [
            _box(x, _TOP, width, _HEIGHT, 'fill="#f5f7f9" stroke="#d9dfe5"'),
            _box(x, foot - blocked, width, blocked, f'fill="{_BLOCKED}"'),
            _box(x, foot - blocked - throttled, width, throttled, f'fill="{_THROTTLED}"'),
            f'<text x="{middle:.1f}" y="{_TOP - 10}" text-anchor="middle">{number}</text>',
            f'<text x="{x:.1f}" y="{foot + 18}" text-anchor="{place}">{begin}</text>',
        ]
    caption = (
        f"Stages 1 to {len(starts)} over the days since the first such mail. Of each hour, orange: minutes in which "
        "mail is delayed, red: minutes in which it is refused."
    )
    return (
        f'<figure><svg viewBox="-4 0 {_WIDTH + 8} {_TOP + _HEIGHT + 26}" role="img" aria-label="{escape(caption)}" '
        f'font-size="13" fill="#1f2933" font-family="system-ui, sans-serif">{"".join(parts)}</svg>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _box(x: float, y: float, width: float, height: float, paint: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" {paint}/>'
