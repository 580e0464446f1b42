"""Traffic tables: every row comes out as a hand-over or as a reject that says why."""

import csv
import gzip
import io
import random
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from enforcement.importers import tables
from enforcement.importers.batch import Batch
from enforcement.importers.csv_text import _plain_rows, csv_pieces
from enforcement.importers.table_rows import judged
from enforcement.importers.table_times import utc_times
from enforcement.names import excerpt

GOOD = ("2026-01-31T07:05:09Z", "mail.example.com", "15.1.2507.61")


def read_table(path: Path, report: tables.Report | None = None) -> Batch:
    """Read a table and put its pieces together."""
    pieces = list(tables.read_table(path, report))
    text = pl.selectors.enum().cast(pl.String)
    return Batch(
        handovers=pl.concat([piece.handovers.with_columns(text) for piece in pieces]),
        sightings=None,
        rejects=pl.concat([piece.rejects for piece in pieces]),
        rows_read=sum(piece.rows_read for piece in pieces),
        notes=tuple(dict.fromkeys(note for piece in pieces for note in piece.notes)),
    )


def _file(folder: Path, text: str, name: str = "traffic.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def test_a_table_with_all_columns(tmp_path: Path) -> None:
    """Every column is read, names and builds in their one spelling."""
    batch = read_table(
        _file(
            tmp_path,
            "sent_at,server,build,tenant,hop,route,messages\n"
            "2026-01-31T07:05:09Z,MAIL.Example.com.,15.01.2507.061,Contoso,SMTP,Relayed,3\n"
            "2026-01-31 07:05:09.25,ex01.corp.local,8.3.298.1,,mapi,through cloud,1\n",
        )
    )
    assert batch.handovers.rows() == [
        (datetime(2026, 1, 31, 7, 5, 9), "mail.example.com", "15.1.2507.61", "contoso", "smtp", "relayed", 3),
        (datetime(2026, 1, 31, 7, 5, 9, 250_000), "ex01.corp.local", "8.3.298.1", None, "mapi", "through cloud", 1),
    ]
    assert (batch.rows_read, batch.rejects.height, batch.notes) == (2, 0, ())


def test_defaults_of_a_table(tmp_path: Path) -> None:
    """Without the optional columns, or with blanks in them: hop smtp, route direct, one message, tenant by name."""
    bare = read_table(_file(tmp_path, f"sent_at,server,build\n{','.join(GOOD)}\n"))
    blank = read_table(
        _file(tmp_path, f"sent_at,server,build,tenant,hop,route,messages\n{','.join(GOOD)},, ,,\n", "blank.csv")
    )
    expected = [(datetime(2026, 1, 31, 7, 5, 9), "mail.example.com", "15.1.2507.61", None, "smtp", "direct", 1)]
    assert bare.handovers.rows() == blank.handovers.rows() == expected


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("sent_at", "", "no sent_at"),
        ("sent_at", "31.01.2026 07:05", "not a time of a mail: '31.01.2026 07:05'"),
        ("sent_at", "2026-02-30T07:05", "not a time"),
        ("sent_at", "2026-01-31T24:00", "not a time"),
        ("sent_at", "2026-01-31T07:60", "not a time"),
        ("sent_at", "2026-01-31", "not a time"),
        ("sent_at", "0000-01-01T00:00", "not a time"),
        ("sent_at", "9999-12-31T23:59", "not a time"),
        ("sent_at", "9999-12-31T23:59:59-23:59", "not a time"),
        ("sent_at", "٢٠٢٦-01-31T07:05", "not a time"),
        ("server", "", "no server"),
        ("server", "a b", "not a server name: 'a b'"),
        ("server", "x" * 2000, "server name of 2000 characters"),
        ("build", "", "no build"),
        ("build", "15.1", "not a build number: '15.1'"),
        ("build", "15.1.99999999999.1", "not a build number"),
        ("tenant", "a\x07b", r"not a tenant name: 'a\x07b'"),
        ("hop", "esmtp", "not a kind of hop: 'esmtp' (expected smtp, mapi)"),
        ("route", "unknown", "not a route: 'unknown' (expected direct, relayed, through cloud)"),
        ("messages", "0", "not a number of messages: '0' (expected a whole number from 1)"),
        ("messages", "-1", "not a number of messages"),
        ("messages", "1.5", "not a number of messages"),
        ("messages", "2147483648", "not a number of messages"),
        ("messages", "٣", "not a number of messages"),
    ],
)
def test_a_bad_value_makes_a_reject(field: str, value: str, reason: str) -> None:
    """A value that cannot be used rejects its row, and only that, with the value in the reason."""
    fields = ("sent_at", "server", "build", "tenant", "hop", "route", "messages")
    fine = dict(zip(fields, (*GOOD, "contoso", "smtp", "direct", "1"), strict=True))
    rows = [{"position": 1, **fine}, {"position": 2, **fine, field: value or None}]
    good, bad = judged(pl.DataFrame(rows))
    assert good.height == 1
    assert bad["position"].to_list() == [2]
    assert bad["reason"][0].startswith(reason)
    assert len(bad["excerpt"][0]) <= 200


def test_rejects_keep_their_place_and_no_address(tmp_path: Path) -> None:
    """Positions count data rows from 1, blank lines too; addresses are masked."""
    batch = read_table(
        _file(
            tmp_path,
            f"sent_at,server,build,sender\r\n{','.join(GOOD)},a@b.example\r\n\r\n2026-01-31T07:05,some.one@example.com,15.1\r\n"
            f"{','.join(GOOD)},x,y\r\n",
        )
    )
    assert batch.handovers.height == 1
    assert batch.rejects.rows() == [
        (
            3,
            "not a server name: '…@example.com' (expected letters, digits, '-', '_', and single dots between them)",
            "2026-01-31T07:05,…@example.com,15.1",
        ),
        (4, "5 fields, expected 4", "2026-01-31T07:05:09Z,mail.example.com,15.1.2507.61,x,y"),
    ]
    assert batch.rows_read == 3
    assert batch.notes == ("traffic.csv: columns not read: sender",)


@pytest.mark.parametrize(
    ("header", "line"),
    [
        (
            "time,server,build",
            "no column 'sent_at' (found: time, server, build; expected: sent_at, server, build[, tenant",
        ),
        (
            "sent_at,serverr,build",
            "no column 'server' (found: sent_at, serverr, build; expected: sent_at, server, build",
        ),
        ("sent_at,server,build,server", "2 columns 'server' (found: sent_at, server, build, server)"),
        ("", "no header in its first line (expected sent_at, server, build)"),
        (",,", "no header in its first line"),
        ("x" * 200_000, "no header in its first line"),
        ("\x1b[31m,b,c", r"found: \x1b[31m, b, c"),
    ],
)
def test_a_header_that_does_not_fit_is_one_line(tmp_path: Path, header: str, line: str) -> None:
    """A missing, renamed or doubled column is named, with what was found and what was expected."""
    with pytest.raises(ValueError, match=r"traffic\.csv: ") as raised:
        read_table(_file(tmp_path, header + "\n1,2,3\n" if header else ""))
    assert line in str(raised.value)
    assert str(raised.value).isprintable()


def test_the_nearest_column_is_named(tmp_path: Path) -> None:
    """A slip in a column's name is pointed out."""
    with pytest.raises(ValueError, match="is it 'serverr'"):
        read_table(_file(tmp_path, "sent_at,serverr,build\n"))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("semicolons.csv", "sent_at;server;build\n" + ";".join(GOOD) + "\n"),
        ("tabs.csv", "sent_at\tserver\tbuild\n" + "\t".join(GOOD) + "\n"),
        ("bom.csv", "\ufeffsent_at,server,build\n" + ",".join(GOOD) + "\n"),
        ("capitals.csv", "Sent_At, SERVER ,Build\n" + ",".join(GOOD) + "\n"),
        ("quoted.csv", '"sent_at","server","build"\r\n"' + '","'.join(GOOD) + '"\r\n'),
        ("no_newline_at_end.csv", "sent_at,server,build\n" + ",".join(GOOD)),
        ("other_order.csv", "build,x,server,sent_at\n" + f"{GOOD[2]},,{GOOD[1]},{GOOD[0]}\n"),
        ("old_mac.csv", "sent_at,server,build\r" + ",".join(GOOD) + "\r"),
        ("lines_before.csv", "\r\n\nsent_at,server,build\n" + ",".join(GOOD) + "\n"),
        ("short_row.csv", "sent_at,server,build,tenant\n" + ",".join(GOOD) + "\n"),
        ("embedded.csv", "sent_at,server,build,x\n" + ",".join(GOOD) + ',"a ""quoted"", field\nof two lines"\n'),
    ],
)
def test_dialects_of_csv(tmp_path: Path, name: str, data: str) -> None:
    """Separators, quotes, line ends and byte order marks as programs write them are read alike."""
    batch = read_table(_file(tmp_path, data, name))
    assert batch.handovers.select("sent_at", "server", "build").rows() == [
        (datetime(2026, 1, 31, 7, 5, 9), "mail.example.com", "15.1.2507.61")
    ]
    assert batch.rejects.height == 0


def test_wide_text_and_octets_that_are_none(tmp_path: Path) -> None:
    """UTF-16, as spreadsheets write it, is read; octets that are no text make a reject, not an error."""
    wide = tmp_path / "wide.csv"
    wide.write_bytes(("sent_at\tserver\tbuild\r\n" + "\t".join(GOOD) + "\r\n").encode("utf-16"))
    assert read_table(wide).handovers.height == 1
    odd = tmp_path / "odd.csv"
    odd.write_bytes(b"sent_at,server,build\n2026-01-31T07:05,m\xe4il.example,15.1.2507.61\n" + ",".join(GOOD).encode())
    batch = read_table(odd)
    assert batch.handovers.height == 1
    assert batch.rejects["excerpt"].to_list() == [r"2026-01-31T07:05,m\xe4il.example,15.1.2507.61"]


def test_a_packed_table_and_a_cut_one(tmp_path: Path) -> None:
    """A .csv.gz is read; one that is cut off or none at all is one clear line, and no part of it is read."""
    packed = gzip.compress(("sent_at,server,build\n" + (",".join(GOOD) + "\n") * 5_000).encode())
    whole, cut, no_gzip = (tmp_path / f"{name}.csv.gz" for name in ("whole", "cut", "no_gzip"))
    whole.write_bytes(packed)
    cut.write_bytes(packed[: len(packed) // 2])
    no_gzip.write_bytes(b"sent_at,server,build\n")
    assert read_table(whole).rows_read == 5_000
    for path in (cut, no_gzip):
        with pytest.raises(ValueError, match=rf"{path.name}: damaged or cut off \("):
            read_table(path)


def test_a_field_beyond_measure_is_a_reject(tmp_path: Path) -> None:
    """A field too long for a record costs that record, quoted or not, and no other."""
    long = "x" * 1_000_000
    lines = f"sent_at,server,build\n{','.join(GOOD)}\n2026-01-31T07:05,{long},15.1.2507.61\n{','.join(GOOD)}\n"
    plain = read_table(_file(tmp_path, lines))
    quoted = read_table(_file(tmp_path, lines.replace(long, f'"{long}"').replace(GOOD[1], f'"{GOOD[1]}""'), "q.csv"))
    assert (plain.handovers.height, plain.rejects["position"].to_list()) == (2, [2])
    assert 2 in quoted.rejects["position"].to_list()


_CELLS = st.sampled_from(
    ["a", "15.1.2507.61", "", " ", "é", '"', '"b"', '""', 'c"', "\x00", "\t", '"d\n', 'e"', "\ufeff"]
)
_BREAKS = st.sampled_from([",", ",", "\n", "\n", "\r\n", "\r", "\n\n"])
_TEXTS = st.lists(st.tuples(_CELLS, _BREAKS), max_size=12).map(
    lambda pieces: "".join(cell + end for cell, end in pieces)
)


def _is_open(line: str, delimiter: str) -> bool:
    """Whether a line ends within quotes: they open a field at its start, two are one, anything behind one goes on."""
    state = "start"
    for sign in line.rstrip("\r\n"):
        if state == "quoted":
            state = "quote" if sign == '"' else "quoted"
        elif sign == '"' and state in ("start", "quote"):
            state = "quoted"
        else:
            state = "start" if sign == delimiter else "field"
    return state == "quoted"


def _several(lines: list[str], delimiter: str) -> tuple[list[str], int] | None:
    """The record that the first lines are together, if they are one, and how many they are."""
    for n in range(2, min(100, len(lines)) + 1):
        if sum(map(len, lines[:n])) > 65_536:
            return None
        try:
            (record,) = csv.reader(lines[:n], delimiter=delimiter, strict=True)
        except csv.Error:
            continue
        return record, n
    return None


def _records_of(lines: list[str], delimiter: str) -> tuple[list[str], list[list[str] | tuple[str, str]]]:
    """The header and the records of a CSV; a line that begins none is given with what is wrong with it."""
    found: list[list[str] | tuple[str, str]] = []
    width = 0
    place = 0
    while place < len(lines):
        line = lines[place]
        place += 1
        try:
            (record,) = csv.reader([line], delimiter=delimiter)
        except csv.Error as problem:
            found.append((f"cannot be read: {problem}", excerpt(line)))
            continue
        if _is_open(line, delimiter):
            together = _several(lines[place - 1 :], delimiter)
            if together is None:
                found.append(("a quote in it never closes", excerpt(line)))
                continue
            record, n = together
            if found and (len(record) < width or any(record[width:])):
                found.append((f"{len(record)} fields on {n} lines, expected {width}", excerpt(line)))
                continue
            place += n - 1
        found.append(record)
        width = width or len(record)
    if not found or isinstance(found[0], tuple) or not any(found[0]):
        return [], []
    return found[0], found[1:]


def _read_at_once(data: bytes) -> tuple[list[str], list[tuple[object, ...]], list[tuple[object, ...]]]:
    """What is in a CSV, read whole and record by record."""
    data = data.lstrip(b"\r\n")
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    lines = list(io.StringIO(data.decode(encoding, "backslashreplace"), newline=""))
    header, records = _records_of(lines, max(",;\t", key=lines[0].count) if lines else ",")
    rows: list[tuple[object, ...]] = []
    broken: list[tuple[object, ...]] = []
    for position, record in enumerate(records, start=1):
        if isinstance(record, tuple):
            broken.append((position, *record))
        elif any(record[len(header) :]):
            broken.append((position, f"{len(record)} fields, expected {len(header)}", excerpt(",".join(record))))
        else:
            cells = [cell if cell.strip(" \t") else None for cell in record[: len(header)]]
            if any(cell is not None for cell in cells):
                rows.append((position, *cells, *[None] * (len(header) - len(cells))))
    return header, rows, broken


def _read_in_pieces(data: bytes, at_once: int) -> tuple[list[str], list[tuple[object, ...]], list[tuple[object, ...]]]:
    header, pieces = csv_pieces(io.BytesIO(data), at_once)
    found = list(pieces)
    return header, [row for rows, _ in found for row in rows.rows()], [row for _, bad in found for row in bad.rows()]


@pytest.mark.parametrize("text", ["a\r,a\n", "a,a\r\na\r,b\n", "a,a\r"])
@pytest.mark.parametrize("at_once", [5, 1_000_000])
def test_a_lone_return_ends_a_line(text: str, at_once: int) -> None:
    """As the careful reader has it; the quick one would drop it from a field."""
    octets = f"one,two\n{text}".encode()
    assert _read_in_pieces(octets, at_once) == _read_at_once(octets)


@settings(deadline=None, max_examples=400)
@given(st.sampled_from(["one,two\n", "one,two\r\n", '"o\nne",two\n', "one;two\n", "one,two\r", ""]), _TEXTS, st.data())
def test_a_csv_may_be_cut_anywhere(header: str, text: str, data: st.DataObject) -> None:
    """In pieces of any size, quickly or patiently, rows and rejects are those of reading the whole record by record."""
    encoding = data.draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16"]))
    octets = (header + text).encode(encoding)
    if encoding == "utf-8" and data.draw(st.booleans()):
        place = data.draw(st.integers(0, len(octets)))
        octets = octets[:place] + data.draw(st.sampled_from([b"\xe4", b"\xff", b"\xc3"])) + octets[place:]
    at_once = data.draw(st.sampled_from([1, 2, 3, 5, 8, 13, 40, 1_000_000]))
    assert _read_in_pieces(octets, at_once) == _read_at_once(octets)


_PLAIN = ["a,b\n"] * 300


@pytest.mark.parametrize("at_once", [7, 1_000, 1_000_000])
@pytest.mark.parametrize(
    ("odd", "n_broken", "reason"),
    [
        (['c,"d\n'], 1, "a quote in it never closes"),  # nor does any line behind it have one
        (['c,"d\n', *_PLAIN[:3], 'e,"f"\n'], 1, "a quote in it never closes"),
        (['c,"d\n', *_PLAIN, 'e,f"\n'], 1, "a quote in it never closes"),
        (['c,"d\n', *["x\n"] * 99, 'f"\n'], 1, "a quote in it never closes"),  # 101 lines
        (['c,"d\n', "x" * 65_530 + '"\n'], 1, "a quote in it never closes"),
        (['x","y\n'] * 50, 50, "a quote in it never closes"),
        (['c,"d\n', 'e,f"\n', "g,h\n"], 0, ""),  # a field of two lines
        (['c,"d\n', *["x\n"] * 98, 'f"\n'], 0, ""),  # 100 lines
        (['c,"d\n', 'e",f\n'], 1, "3 fields on 2 lines, expected 2"),
        (['"c,d\n', 'e,f"\n'], 1, "1 fields on 2 lines, expected 2"),
    ],
)
def test_a_stray_quote_costs_its_own_line(odd: list[str], n_broken: int, reason: str, at_once: int) -> None:
    """What a quote that is never closed would swallow is read line by line: no line is lost."""
    lines = ["one,two\n", *_PLAIN, *odd, *_PLAIN]
    octets = "".join(lines).encode()
    _, rows, broken = found = _read_in_pieces(octets, at_once)
    assert found == _read_at_once(octets)
    assert [(said, text) for _, said, text in broken][:1] == [(reason, odd[0].strip())][:n_broken]
    if n_broken:
        assert len(rows) + len(broken) == len(lines) - 1
    assert len(broken) == n_broken


def test_a_file_that_ends_within_a_quote(tmp_path: Path) -> None:
    """Three lines behind a quote that is not closed are three rows; the line with it is one reject that shows it."""
    good = ",".join(GOOD)
    batch = read_table(_file(tmp_path, f'sent_at,server,build\n{GOOD[0]},"ex1.a.example,{GOOD[2]}\n' + f"{good}\n" * 3))
    assert (batch.handovers.height, batch.rows_read) == (3, 4)
    assert batch.rejects.rows() == [(1, "a quote in it never closes", f'{GOOD[0]},"ex1.a.example,{GOOD[2]}')]


def test_a_field_too_long_is_one_wherever_a_csv_is_cut() -> None:
    """A plain row with a field beyond the limit is no row, as it is none beside quoted ones."""
    long = "z" * 140_000
    for text in (f"one,two\na,b\nc,{long}\nd,e\n", f'one,two\n"a""",b\nc,{long}\nd,e\n'):
        for at_once in (10, 1_000_000):
            assert _read_in_pieces(text.encode(), at_once) == _read_at_once(text.encode())
    assert len(_read_at_once(text.encode())[2]) == 1


def test_plain_text_goes_the_quick_way() -> None:
    """Unquoted and simply quoted tables are not read record by record."""
    assert _plain_rows(b"1,2\n", ",", 2) is not None
    assert _plain_rows(b'"1","2"\r\n', ",", 2) is not None
    assert _plain_rows(b'"1,5",2\n', ",", 2) is None


@given(
    st.lists(
        st.lists(
            st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"), max_size=8), min_size=3, max_size=3
        ),
        max_size=5,
    )
)
def test_what_a_program_wrote_is_read_back(rows: list[list[str]]) -> None:
    """Whatever text a CSV writer quoted comes back, but for blanks, which are null, and rows of nothing else."""
    stream = io.StringIO(newline="")
    csv.writer(stream, quoting=csv.QUOTE_ALL).writerows([["one", "two", "three"], *rows])
    _, read, broken = _read_in_pieces(stream.getvalue().encode(), 1_000_000)
    expected = [
        (place, *(None if not cell.strip(" \t") else cell for cell in row))
        for place, row in enumerate(rows, start=1)
        if any(cell.strip(" \t") for cell in row)
    ]
    assert read == expected
    assert not broken


@given(st.datetimes(datetime(1990, 1, 1), datetime(2070, 1, 1), timezones=st.timezones()), st.sampled_from("T "))
def test_times_are_read_as_python_reads_them(sent_at: datetime, between: str) -> None:
    """A time with an offset comes out as the same moment in UTC, or as null outside of the days of mail."""
    text = sent_at.isoformat(sep=between)
    if sent_at.utcoffset() is not None and sent_at.utcoffset().seconds % 60:  # type: ignore[union-attr]  # checked a word before
        return  # offsets of seconds, as clocks had them before 1900
    good, _ = judged(pl.DataFrame([{"position": 1, "sent_at": text, "server": "a", "build": GOOD[2]}]))
    utc = sent_at.astimezone(UTC).replace(tzinfo=None)
    is_storable = date(1996, 1, 1) <= utc.date() <= date(2058, 12, 31)
    assert good["sent_at"].to_list() == ([utc] if is_storable else [])


def test_a_time_without_a_zone_is_utc() -> None:
    """Z, UTC, an offset of nothing, and no zone at all mean the same."""
    texts = ["2026-01-31T07:05", "2026-01-31 07:05:00Z", "2026-01-31T07:05:00.000 UTC", "2026-01-31T09:05:00+0200"]
    rows = [{"position": n, "sent_at": text, "server": "a", "build": GOOD[2]} for n, text in enumerate(texts)]
    assert judged(pl.DataFrame(rows))[0]["sent_at"].to_list() == [datetime(2026, 1, 31, 7, 5)] * 4


def _parquet(folder: Path, frame: pl.DataFrame) -> Path:
    path = folder / "traffic.parquet"
    frame.write_parquet(path)
    return path


def test_parquet_with_types(tmp_path: Path) -> None:
    """Times with a zone, categories and small whole numbers are read; nulls are blanks."""
    frame = pl.DataFrame(
        {
            "sent_at": pl.Series(["2026-01-31T09:05:00"] * 3)
            .str.to_datetime(time_unit="ns")
            .dt.replace_time_zone("Europe/Berlin"),
            "Server": pl.Series(["mail.example", "mail.example", None], dtype=pl.Categorical),
            "build": ["15.1.2507.61", None, "15.1.2507.61"],
            "messages": pl.Series([7, 1, 1], dtype=pl.UInt16),
            "tenant": [None, None, None],
        }
    )
    batch = read_table(_parquet(tmp_path, frame))
    assert batch.handovers.rows() == [
        (datetime(2026, 1, 31, 8, 5), "mail.example", "15.1.2507.61", None, "smtp", "direct", 7)
    ]
    assert [(position, reason) for position, reason, _ in batch.rejects.rows()] == [(2, "no build"), (3, "no server")]
    assert batch.rows_read == 3


@pytest.mark.parametrize("zone", [None, "UTC"])
@pytest.mark.parametrize(
    ("unit", "number", "shown"),
    [
        ("ms", 4_000_000_000_000, "2096-10-02 07:06:40"),
        ("ms", -1, "1969-12-31 23:59:59.999"),
        ("ms", 2**61, "2305843009213693952 ms from 1970"),
        ("ms", -(2**63), "-9223372036854775808 ms from 1970"),
        ("us", 2**62, "4611686018427387904 us from 1970"),
        ("us", 2**63 - 1, "9223372036854775807 us from 1970"),
        ("us", -(2**62), "-4611686018427387904 us from 1970"),
        ("ns", 2**62, "2116-02-20 23:53:38.427387904"),
        ("ns", -(2**62), "1823-11-12 00:06:21.572612096"),
    ],
)
def test_an_absurd_time_in_parquet_is_a_reject(
    tmp_path: Path, unit: str, number: int, shown: str, zone: str | None
) -> None:
    """However far off a time is, in whatever unit, it costs its own row only, and the reject shows it."""
    good = 1_770_000_000 * {"ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    times = pa.array([good, number, None], pa.int64()).cast(pa.timestamp(unit, zone))
    path = tmp_path / "far.parquet"
    parquet.write_table(pa.table({"sent_at": times, "server": ["mail.example"] * 3, "build": [GOOD[2]] * 3}), path)
    batch = read_table(path)
    assert batch.handovers["sent_at"].to_list() == [datetime(2026, 2, 2, 2, 40)]
    assert batch.rejects.rows() == [
        (
            2,
            f"not a time of a mail: '{shown}' (expected e.g. 2026-01-31T07:05:09Z)",
            f"{shown},mail.example,15.1.2507.61",
        ),
        (3, "no sent_at", ",mail.example,15.1.2507.61"),
    ]


@pytest.mark.parametrize(
    ("column", "values", "line"),
    [
        ("sent_at", [1738307109], "column 'sent_at' holds int64 (expected times, or text)"),
        ("sent_at", [date(2026, 1, 31)], "column 'sent_at' holds date32[day] (expected times, or text)"),
        ("server", [1], "column 'server' holds int64 (expected text)"),
        ("build", [15.1], "column 'build' holds double (expected text)"),
        ("messages", [1.5], "column 'messages' holds double (expected whole numbers)"),
        ("route", [["direct"]], "column 'route' holds large_list<element: large_string> (expected text)"),
    ],
)
def test_a_column_of_another_type_is_one_line(tmp_path: Path, column: str, values: list[object], line: str) -> None:
    """A Parquet column of the wrong type is named, with the type found and what was expected."""
    row = {"sent_at": [datetime(2026, 1, 31)], "server": ["a"], "build": [GOOD[2]]} | {column: values}
    path = _parquet(tmp_path, pl.DataFrame(row))
    with pytest.raises(ValueError, match="holds") as raised:
        read_table(path)
    assert str(raised.value) == f"{path}: {line}"


def test_a_damaged_parquet_file_is_one_line(tmp_path: Path) -> None:
    """A file that is none, is cut off, or has odd octets in it is refused on one line."""
    path = _parquet(tmp_path, pl.DataFrame({"sent_at": [GOOD[0]] * 50, "server": ["a"] * 50, "build": [GOOD[2]] * 50}))
    octets = path.read_bytes()
    for damaged in (b"", b"PAR1", b"no parquet at all" * 9, octets[:-20], octets[:200], octets[: len(octets) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="no Parquet file, or a damaged one") as raised:
            read_table(path)
        assert "\n" not in str(raised.value)


def test_odd_octets_in_a_file_are_a_line_or_rows(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever octets are changed, a file gives rows or one line, and no library writes past us."""
    chance = random.Random(1)
    good = {"sent_at": [GOOD[0]] * 50, "server": ["mail.example"] * 50, "build": [GOOD[2]] * 50}
    packed = _parquet(tmp_path, pl.DataFrame(good))
    plain = _file(tmp_path, pl.DataFrame(good).write_csv())
    for path in (packed, plain):
        octets = path.read_bytes()
        for _ in range(60):
            changed = bytearray(octets)
            for _ in range(chance.randint(1, 4)):
                changed[chance.randrange(len(changed))] = chance.randrange(256)
            path.write_bytes(changed)
            try:
                batch = read_table(path)
            except ValueError as problem:
                assert str(problem).isprintable()  # noqa: PT017 - rows are right too
            else:
                assert batch.rows_read == batch.handovers.height + batch.rejects.height > 0
    assert capfd.readouterr() == ("", "")


def test_progress_is_told_to_the_end(tmp_path: Path) -> None:
    """The last report says that all rows are read."""
    told: list[tuple[int, int]] = []
    read_table(
        _file(tmp_path, "sent_at,server,build\n" + (",".join(GOOD) + "\n") * 10), lambda *so_far: told.append(so_far)
    )
    assert told[-1] == (10, 10)


_PARTS = st.tuples(
    st.sampled_from(["2026-01-31", "2024-02-29", "2026-02-29", "0000-12-31", "2026-13-01", "20260-1-31"]),
    st.sampled_from(["T", "t", " ", "_"]),
    st.sampled_from(["07:05:09", "23:59:59", "24:00:00", "07:60:00", "07:05:6x", "07-05-09"]),
    st.sampled_from(["", ".", ".5", ",123", ".123456", ".1234567", ".123456789", ".1234567890", ".12a456", "-123456"]),
    st.sampled_from(["", "Z", "z", "+", "+02:00"]),
)


@given(_PARTS, st.lists(_PARTS, max_size=3))
def test_plain_times_are_read_quickly_and_alike(first: tuple[str, ...], others: list[tuple[str, ...]]) -> None:
    """In a column of one length, plain ones are read digit by digit: each means what it means among all kinds."""
    texts = ["".join(parts) for parts in (first, *others)]
    rows = pl.DataFrame({"text": [*texts, "noon"]})
    among_others = rows.select("text", at=utc_times(rows["text"]))[:-1]
    alike = among_others.filter(pl.col("text").str.len_bytes() == len(texts[0]))
    assert utc_times(alike["text"]).equals(alike["at"])
