"""Pieces of a page: sentences, large figures, tables; whatever they hold is escaped."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from html import escape
from typing import Final

import polars as pl

from enforcement.names import printable

TABLE_MIME: Final = "application/vnd.apache.parquet"  # a table whole, beside the part of it that is shown
NAME_MIME: Final = "application/vnd.enforcement.table-name"
_ROWS: Final = 15
_SHORT: Final = 18  # letters that a cell keeps on one line
_SPACE: Final = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True, slots=True)
class Piece:
    """HTML that is safe to show, with the same as plain text; a table is also there whole, under a name."""

    html: str
    text: str
    table: pl.DataFrame | None = None
    name: str = ""

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return self.html

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        shown = {"text/html": self.html, "text/plain": self.text}
        if self.table is None:
            return shown
        buffer = io.BytesIO()
        self.table.write_parquet(buffer)
        return shown | {TABLE_MIME: base64.b64encode(buffer.getvalue()).decode(), NAME_MIME: self.name}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number to be seen first: what it counts, its share of a base, its difference from the baseline."""

    what: str
    value: str
    of: str
    difference: str = ""


def said(template: str, /, **values: object) -> Piece:
    r"""Fill a sentence; values are escaped, and bold when their name begins with `b_`.

    >>> said("Of {n}, {b_name} lost {share}.", n=count(1200), b_name="<p>", share=share(1, 3)).html
    '<p>Of 1,200, <b>&lt;p&gt;</b> lost 33.3\xa0%.</p>'
    """
    marked = {name: f"<b>{safe(value)}</b>" if name.startswith("b_") else safe(value) for name, value in values.items()}
    plain = {name: _plain(value) for name, value in values.items()}
    return Piece(f"<p>{escape(template, quote=False).format(**marked)}</p>", template.format(**plain))


def together(pieces: Sequence[Piece], *, kind: str = "") -> Piece:
    """Put pieces below each other, as a block of a kind that the page knows how to set."""
    html = "".join(piece.html for piece in pieces)
    opened = f'<div class="{escape(kind)}">' if kind else "<div>"
    return Piece(f"{opened}{html}</div>", "\n".join(piece.text for piece in pieces))


def listed(pieces: Sequence[Piece]) -> Piece:
    """Put sentences into a list."""
    items = "".join(f"<li>{piece.html.removeprefix('<p>').removesuffix('</p>')}</li>" for piece in pieces)
    return Piece(f"<ul>{items}</ul>", "\n".join(f"- {piece.text}" for piece in pieces))


def figures(shown: Sequence[Figure]) -> Piece:
    """Show figures large, side by side.

    >>> print(figures([Figure(what="lost", value="12", of="of 100 messages", difference="+2 against old")]))
    lost: 12 (of 100 messages; +2 against old)
    """
    html = "".join(
        f'<div class="figure"><dt>{safe(each.what)}</dt><dd><div class="value">{safe(each.value)}</div>'
        f'<div class="of">{safe(each.of)}</div>'
        + (f'<div class="difference">{safe(each.difference)}</div>' if each.difference else "")
        + "</dd></div>"
        for each in shown
    )
    lines = (f"{each.what}: {each.value} ({'; '.join(filter(None, (each.of, each.difference)))})" for each in shown)
    return Piece(f'<dl class="figures">{html}</dl>', "\n".join(lines))


def table(
    frame: pl.DataFrame, *, name: str, whole: pl.DataFrame | None = None, rows: int = _ROWS, note: str = ""
) -> Piece:
    """Show the first rows of a table as they are and say of how many; the whole goes along under the name.

    Values that are no text are written for reading; write shares with `share` before.
    """
    cut = frame.head(rows)
    is_number = [dtype.is_numeric() or name_of in _AS_NUMBERS for name_of, dtype in frame.schema.items()]
    head = "".join(
        f"<th{_NUMBER if number else ''}>{safe(column.replace('_', ' '))}</th>"
        for column, number in zip(frame.columns, is_number, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{_NUMBER if number else _kept_whole(value)}>{safe(cell(value))}</td>"
            for value, number in zip(row, is_number, strict=True)
        )
        + "</tr>"
        for row in cut.iter_rows()
    )
    shown = f"shown {cut.height:,} of {frame.height:,} rows" if cut.height < frame.height else ""
    below = ". ".join(filter(None, (shown, note)))
    caption = f"<figcaption>{safe(below)}</figcaption>" if below else ""
    html = (
        f'<figure class="table"><div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>{caption}</figure>"
    )
    text = "\n".join((*(_plain(line) for line in str(cut).splitlines()), below))
    if whole is None and cut.height == frame.height:
        return Piece(html, text)
    return Piece(html, text, whole if whole is not None else frame, name)


def _kept_whole(value: object) -> str:
    return ' class="short"' if len(cell(value)) <= _SHORT else ""


_NUMBER: Final = ' class="number"'
_AS_NUMBERS: Final = frozenset(
    {"share", "lost_share", "delayed_share", "of_its_mail", "error", "bias", "last_value", "constant_rate"}
)


def pairs(shown: Mapping[str, object]) -> Piece:
    """Show names with their values, a line each."""
    # JupyterLab lets both float: a name of two lines would push all that follows aside, were they not held together.
    html = "".join(
        f'<div style="overflow: hidden"><dt>{safe(name)}</dt><dd>{_value(value)}</dd></div>'
        for name, value in shown.items()
    )
    return Piece(f'<dl class="pairs">{html}</dl>', "\n".join(f"{name}: {cell(value)}" for name, value in shown.items()))


def _value(value: object) -> str:
    return value.html if isinstance(value, Piece) else safe(cell(value))


def verbatim(text: str) -> Piece:
    """Show a text as it is, line by line."""
    lines = "\n".join(printable(line) for line in text.splitlines())
    return Piece(f"<pre>{escape(lines)}</pre>", lines)


def safe(value: object) -> str:
    r"""Write a value as HTML text: nothing in it is markup, and no control character is left.

    >>> safe("<script>\x1b")
    '&lt;script&gt;\\x1b'
    """
    return escape(_plain(value))


def _plain(value: object) -> str:
    # A no-break space is the one sign that counts as not printable and is meant.
    return _SPACE.join(printable(part) for part in str(value).split(_SPACE))


def cell(value: object) -> str:
    """Write a value for reading.

    >>> cell(1234567), cell(0.25), cell(date(2026, 11, 24)), cell(None), cell(True)
    ('1,234,567', '0.25', '2026-11-24', '', 'yes')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() or abs(value) >= 100 else f"{value:,.4g}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M} UTC"
    return value.isoformat() if isinstance(value, date) else str(value)


def count(number: float) -> str:
    """Write a count; expected values are rounded, but never to nothing.

    >>> count(1204331.4), count(0.3), count(0)
    ('1,204,331', 'under 1', '0')
    """
    return "under 1" if 0 < number < 0.5 else f"{number:,.0f}"


def share(part: float, base: float) -> str:
    r"""Write a share in per cent with one decimal; a share of nothing is none.

    >>> share(1, 3), share(1, 10_000), share(9_999, 10_000), share(0, 5), share(0, 0)
    ('33.3\xa0%', 'under 0.1\xa0%', 'over 99.9\xa0%', '0.0\xa0%', 'none')
    """
    if not base:
        return "none"
    percent = 100 * part / base
    if 0 < percent < 0.05:
        return f"under 0.1{_SPACE}%"
    if 99.95 <= percent < 100:
        return f"over 99.9{_SPACE}%"
    return f"{percent:.1f}{_SPACE}%"


def difference(now: float, before: float, *, than: str) -> str:
    """Write how much more or less something is than before.

    >>> difference(5, 1205, than="none"), difference(3, 3, than="none")
    ('−1,200 against none', 'as with none')
    """
    if round(now) == round(before):
        return f"as with {than}"
    return f"{'+' if now > before else '−'}{abs(now - before):,.0f} against {than}"


def in_words(number: int) -> str:
    """Write a small number as a word, as a sentence wants it.

    >>> in_words(3), in_words(2015)
    ('three', '2,015')
    """
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
    return words[number] if number < len(words) else f"{number:,}"


def plural(number: int, one: str, many: str = "") -> str:
    """Write a number with its noun.

    >>> plural(1, "tenant"), plural(2, "tenant"), plural(2, "is", "are")
    ('one tenant', 'two tenants', 'two are')
    """
    return f"{in_words(number)} {one if number == 1 else many or one + 's'}"
