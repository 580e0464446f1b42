"""Mail in files: each mail is found once, whatever the file is like, and nothing is lost without a word."""

import gzip
import mailbox
import os
import tracemalloc
from collections.abc import Iterator
from datetime import datetime
from email.parser import BytesHeaderParser
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from reference_mail import read_mail as read_slowly

from enforcement.importers import mail_files
from enforcement.importers.batch import Batch
from enforcement.importers.mail import read_mail
from enforcement.importers.mail_files import TOO_LONG, Source, find_sources, header_fields

SEPARATOR = "From sender@a.example Thu Jan  1 00:00:00 1970\n"
HOP = (
    "Received: from a.example (192.0.2.1) by {} (192.0.2.2) with Microsoft SMTP Server (TLS) id 15.1.2507.39;"
    " Tue, 8 Apr 2025 08:54:43 +0000\n"
)
MAPI = (
    "Received: from a.example (192.0.2.1) by b.example (192.0.2.2) with mapi id 15.01.2507.039; 8 Apr 2025 08:54 GMT\n"
)


def mail(server: str, body: str = "text\n") -> str:
    """Write a mail that this server handed over."""
    return HOP.format(server) + f"Subject: x\n\n{body}"


def read(path: Path, *own: str) -> Batch:
    """Read the one source that a path names."""
    (source,) = find_sources(path)
    return read_mail(source, own)


def servers(batch: Batch) -> list[str]:
    return batch.handovers["server"].to_list()


def box(tmp_path: Path, text: str | bytes, name: str = "list.mbox") -> Path:
    """Write an mbox."""
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_mail_becomes_rows(tmp_path: Path) -> None:
    """A hand-over has the hop's own time, server, build and route; each hop on premises is counted as a sighting."""
    relay = "Received: from x by relay.example (Postfix) with ESMTP id 1; Tue, 8 Apr 2025 08:54:44 +0000\n"
    cloud = HOP.format("x.prod.example").replace("15.1.2507.39", "15.20.7228.32")
    path = box(tmp_path, SEPARATOR + relay + cloud + mail("B.example.") + "\n" + SEPARATOR + MAPI * 2 + "\n")
    batch = read(path)
    assert batch.handovers.rows() == [
        (datetime(2025, 4, 8, 8, 54, 43), "b.example", "15.1.2507.39", None, "smtp", "through cloud", 1)
    ]
    day = datetime(2025, 4, 8).date()
    assert batch.sightings.rows() == [
        ("b.example", "15.1.2507.39", None, "mapi", day, 2),
        ("b.example", "15.1.2507.39", None, "smtp", day, 1),
    ]
    assert batch.rejects.rows() == [(2, "only mapi hops of on-premises Exchange servers", " ".join(MAPI.split()))]
    assert (batch.rows_read, batch.notes) == (2, ())


@pytest.mark.parametrize(
    "separator",
    [
        "From sender@a.example Thu Jan  1 00:00:00 1970",
        "From sender at a.example  Mon Dec 31 23:59:59 2018",
        "From 1234567890@xxx Mon Jan 01 00:00:00 +0000 2018",
        "From sender@a.example Thu Jan  1 00:00:00 1970 +0000",
        "From sender@a.example Thu Jan  1 00:00:00 UTC 1970 remote from b",
        "From - Thu, 1 Jan 1970 00:00:00 +0000",
        "From MAILER-DAEMON Thu Jan  1 00:00 1970",
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_stands_between_mails(tmp_path: Path, separator: str, end: str) -> None:
    """Every usual separator behind a blank line begins a mail, with either kind of line end."""
    text = f"{separator}\n{mail('one.example')}\n{separator}\n{mail('two.example')}"
    assert servers(read(box(tmp_path, text.replace("\n", end), "list"))) == ["one.example", "two.example"]


@pytest.mark.parametrize(
    "body",
    [
        f"no blank line before\n{SEPARATOR}{HOP.format('forged.example')}\n",
        f"quoted\n\n>{SEPARATOR}{HOP.format('forged.example')}\n",
        f"From me to you\n\nFrom there to here\n{HOP.format('forged.example')}\n",
        f"forwarded\n\n{HOP.format('forged.example')}\n",
        f"\n\n indented\n\n{HOP.format('forged.example')}\n",
        f" indented at once\n{HOP.format('forged.example')}\n",
        f"From day to day: Thu Jan  1 1970\n{HOP.format('forged.example')}\n",
    ],
)
def test_bodies_are_passed_over(tmp_path: Path, body: str) -> None:
    """What stands in a body begins no mail and is no header."""
    batch = read(box(tmp_path, SEPARATOR + mail("one.example", body) + "\n" + SEPARATOR + mail("two.example")))
    assert servers(batch) == ["one.example", "two.example"]
    assert set(batch.sightings["server"]) == {"one.example", "two.example"}


def test_header_names_in_any_case(tmp_path: Path) -> None:
    """Received is Received in capitals too; a field that only begins alike is none."""
    text = f"X-{HOP.format('x.example')}Received-By: a\nRECEIVED{HOP.format('one.example')[8:]}" + mail("two.example")
    assert servers(read(box(tmp_path, SEPARATOR + text))) == ["one.example"]


@pytest.mark.parametrize("name", ["m.eml", "m.eml.gz", "m", "m.gz", "m.mbox", "m.MBOX.gz", "m.txt"])
@pytest.mark.parametrize("separator", ["", SEPARATOR, "\ufeff", "\n\n", "\ufeff\n" + SEPARATOR])
def test_a_file_is_known_by_what_it_holds(tmp_path: Path, name: str, separator: str) -> None:
    """Packed or not, mbox or single mail, with blank lines or the mark of UTF-8 before it, whatever the name."""
    text = (separator + mail("one.example")).encode()
    batch = read(box(tmp_path, gzip.compress(text) if name.endswith("gz") else text, name))
    assert (servers(batch), batch.rows_read) == (["one.example"], 1)


def test_what_stands_before_the_first_separator(tmp_path: Path) -> None:
    """In a file that is called an mbox, text before its first separator is counted, the mails behind it are read."""
    batch = read(box(tmp_path, "someone's notes\n\n" + SEPARATOR + mail("one.example")))
    assert servers(batch) == ["one.example"]
    assert batch.rejects.rows() == [(1, "no Received line", "")]


def test_folders(tmp_path: Path) -> None:
    """Each mbox is a source, single mails of a folder are one together, so is a Maildir; the rest is counted."""
    for name in ("cur", "new", "tmp", ".Sent/cur", ".Sent/new"):
        (tmp_path / "Maildir" / name).mkdir(parents=True)
    (tmp_path / "sub").mkdir()
    for name in ("Maildir/cur/1:2,S", "Maildir/new/2", "Maildir/tmp/3", "Maildir/.Sent/cur/4", "sub/5.eml", "sub/6"):
        (tmp_path / name).write_text(mail(f"m{name[-1] if name[-1] != 'S' else 1}.example".replace("ml", "m5")))
    box(tmp_path, SEPARATOR + mail("box.example"), "list.mbox")
    (tmp_path / "notes.txt").write_text("no mail\n")
    (tmp_path / "sub" / "empty.mbox").touch()
    os.mkfifo(tmp_path / "sub" / "pipe")
    (tmp_path / "sub" / "link").symlink_to(tmp_path / "nowhere")
    found = find_sources(tmp_path)
    by_path = {str(source.path.relative_to(tmp_path)): servers(read_mail(source)) for source in found}
    assert by_path == {
        "list.mbox": ["box.example"],
        "Maildir": ["m1.example", "m2.example"],
        "Maildir/.Sent": ["m4.example"],
        "sub": ["m5.example", "m6.example"],
    }
    notes = [note for source in found for note in read_mail(source).notes]
    assert notes == ["files passed over, because they hold no mail: 4"]


def test_a_reject_of_a_folder_names_its_file(tmp_path: Path) -> None:
    """Where a source has many files, an excerpt begins with the file's name, made fit to keep."""
    for name in ("a.eml", "b\n\udcff.eml"):
        (tmp_path / name).write_text(MAPI + "\n")
    excerpts = read(tmp_path).rejects["excerpt"].to_list()
    assert [text.split(" ")[0] for text in excerpts] == ["a.eml:", "b"]
    assert all(text.isprintable() for text in excerpts)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.mbox", b"", "an empty file"),
        ("a.pdf", b"%PDF-1.4\n%\xe2\xe3\n", "no mail in it"),
        ("zeros", b"\0" * 5000, "no mail in it"),
        ("blank", b"\n" * 5000, "no mail in it"),
        ("broken.gz", b"\x1f\x8b\x08", "no mail in it"),
        ("settings.yaml", b"name: x\nvalue: y\n", "no mail in it"),
        ("new\nline", b"x", "no mail in it"),
    ],
)
def test_what_holds_no_mail_is_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    """A file without mail is an error that names it, in one line."""
    with pytest.raises(ValueError, match=message) as raised:
        find_sources(box(tmp_path, content, name))
    assert str(raised.value).isprintable()


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    """No such file, a folder without mail, a pipe: one line each."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("no mail\n")
    os.mkfifo(tmp_path / "pipe")
    for name, message in (
        ("x", "no such file or folder"),
        ("folder", "no mail in this folder"),
        ("pipe", "no such file"),
    ):
        with pytest.raises(ValueError, match=message):
            find_sources(tmp_path / name)


@pytest.mark.parametrize("name", ["list.mbox.gz", "m.eml.gz", "m.eml", "list"])
def test_gzip_that_ends_too_early(tmp_path: Path, name: str) -> None:
    """A packed file without its end is an error that says how far it can be read; nothing of it is given."""
    mails = "\n".join(SEPARATOR + mail(f"s{n}.example", "x" * 100 + "\n") for n in range(5000))
    packed = gzip.compress(mails.encode() if "list" in name else mail("one.example", os.urandom(90_000).hex()).encode())
    with pytest.raises(
        ValueError, match=r"the gzip file ends too early; it can be read up to byte [1-9][\d,]+"
    ) as raised:
        read(box(tmp_path, packed[:-1000], name))
    assert name in str(raised.value)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("position", [200, -6, -1])
def test_gzip_that_is_damaged(tmp_path: Path, position: int) -> None:
    """A packed file with a wrong byte, in its data or in its checksum, is an error in one line."""
    packed = bytearray(gzip.compress((SEPARATOR + mail("one.example", os.urandom(9000).hex())).encode()))
    packed[position] ^= 0xFF
    with pytest.raises(ValueError, match="the gzip file is damaged"):
        read(box(tmp_path, bytes(packed), "list.mbox.gz"))


def test_files_that_vanish_or_are_closed(tmp_path: Path) -> None:
    """A file that is gone when it is read is an error in one line."""
    path = box(tmp_path, SEPARATOR + mail("one.example"))
    (source,) = find_sources(path)
    path.unlink()
    for act in (source.sha256, lambda: read_mail(source), lambda: list(header_fields(path))):
        with pytest.raises(ValueError, match=r"list\.mbox: cannot be .*: No such file") as raised:
            act()
        assert str(raised.value).isprintable()


def hostile(server: str = "one.example", **changes: str) -> str:
    """Write a mail with something of its hop replaced."""
    text = mail(server)
    for old, new in changes.items():
        text = text.replace({"build": "15.1.2507.39", "year": "2025"}[old], new)
    return text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("\nbody alone\n", "no Received line"),
        ("", "no Received line"),
        ("Subject: x\nDate: y\n\n", "no Received line"),
        ("no header: at\nall\n\n", "no Received line"),
        ("\0" * 3000 + "\n\n", "no Received line"),
        (hostile(year="0000"), "time not readable: 'Tue, 8 Apr 0000 08:54:43 +0000'"),
        (hostile(year="9999"), "time not readable: 'Tue, 8 Apr 9999 08:54:43 +0000'"),
        (hostile(build="15.1.99999999999.1"), "build not readable: '15.1.99999999999.1'"),
        (hostile("x" * 2000), f"server name not usable: '{'x' * 80}…'"),
        (hostile("o\"n'e"), "server name not usable: 'o\"n'e'"),
        (hostile("o\x07n\x1b[31me"), "server name not usable: 'o\\x07n\\x1b[31me'"),
        (hostile("o\0ne"), "server name not usable: 'o\\x00ne'"),
        (hostile("öne.example"), "server name not usable: 'Ã¶ne.example'"),
        ("Received: x\n" + "X: y\n" * 300_000 + "\n", "headers longer than 1,048,576 bytes"),
        (f"Received: {'x' * 2_000_000}\n\n", "headers longer than 1,048,576 bytes"),
    ],
)
def test_hostile_mail_is_counted(tmp_path: Path, text: str, reason: str) -> None:
    """A mail that cannot be used is one reject with its reason; the mails before and behind it are read."""
    around = SEPARATOR + mail("before.example") + "\n{}\n\n" + SEPARATOR + mail("behind.example")
    batch = read(box(tmp_path, around.format(SEPARATOR + text)))
    assert batch.rejects.rows()[0][:2] == (2, reason)
    assert (batch.rows_read, servers(batch)) == (3, ["before.example", "behind.example"])
    assert len(batch.rejects["excerpt"][0]) <= 200
    assert batch.rejects["excerpt"][0].isprintable()


def test_unusable_hops_are_noted(tmp_path: Path) -> None:
    """Hops that cannot be sightings are counted in a note, the others of a rejected mail are kept."""
    text = SEPARATOR + HOP.format("one.example").replace("2025", "0000") + mail("two.example")
    batch = read(box(tmp_path, text))
    assert (batch.rows_read, batch.handovers.height, batch.sightings["server"].to_list()) == (1, 0, ["two.example"])
    assert batch.notes == ("hops that are no sightings, because server, build or time cannot be read: 1",)


def test_addresses_are_not_kept(tmp_path: Path) -> None:
    """No local part of an address reaches a reject, be it in the excerpt or in the reason."""
    for line in (
        "Received: from x by y with ESMTP id 1 for <some.one@here.example>; Tue, 8 Apr 2025 08:54:43 +0000",
        f"{HOP.format('x').partition(';')[0]} (ORCPT <rfc822;some.one@here.example>",
        HOP.format("some.one@here.example").strip(),
        HOP.format("x").strip().replace("15.1.2507.39", "some.one@here.example"),
        f"Received: {'x' * 900} by y for <some.one{'e' * 200}@here.example>; Tue, 8 Apr 2025 08:54:43 +0000",
    ):
        ((_, reason, excerpt),) = read(box(tmp_path, SEPARATOR + line + "\n\n")).rejects.rows()
        assert "some.one" not in reason + excerpt


def test_own_hosts(tmp_path: Path) -> None:
    """With own hosts, the hand-over is the one below their lines; a mail without such a line is rejected."""
    own = "Received: from x by in1.mx.example (Postfix) with ESMTP id 1; Tue, 8 Apr 2025 08:54:44 +0000\n"
    path = box(tmp_path, SEPARATOR + mail("up.example", "") + "\n" + SEPARATOR + own + mail("one.example"))
    batch = read(path, "*.MX.example")
    assert batch.handovers.select("server", "route").rows() == [("one.example", "direct")]
    assert batch.rejects["reason"].to_list() == ["no line of an own host"]
    assert set(batch.sightings["server"]) == {"up.example", "one.example"}


def test_progress_is_told(tmp_path: Path) -> None:
    """The bytes done grow from file to file up to all of them."""
    for name in ("a.eml", "b.eml", "c.eml"):
        (tmp_path / name).write_text(mail("one.example"))
    told: list[tuple[int, int]] = []
    (source,) = find_sources(tmp_path)
    read_mail(source, report=lambda done, total: told.append((done, total)))
    size = len(mail("one.example"))
    assert told == [(size, 3 * size), (2 * size, 3 * size), (3 * size, 3 * size)]


def _long_line(path: Path, n_bytes: int) -> None:
    """Write an mbox of two mails with a very long line between them, packed by runs."""
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write((SEPARATOR + mail("one.example")).encode())
        for _ in range(n_bytes // 1_000_000):
            file.write(b"x" * 1_000_000)
        file.write(f"\n\n{SEPARATOR}{mail('two.example')}".encode())


def test_a_line_of_200_megabytes_takes_no_memory(tmp_path: Path) -> None:
    """The reader holds a piece of a file at a time, whatever the file is like."""
    path = tmp_path / "long.mbox.gz"
    _long_line(path, 200_000_000)
    tracemalloc.start()
    batch = read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert servers(batch) == ["one.example", "two.example"]
    assert peak < 20_000_000


def _mails_line_by_line(text: str) -> list[list[str]]:
    """Find the mails of an mbox slowly: one line at a time, as its rules are written."""
    mails: list[list[str]] = []
    in_headers, before = False, ""
    for line in text.split("\n"):
        if before == "" and line.startswith("From ") and mail_files._is_separator(line):
            mails.append([])
            in_headers = True
        elif in_headers and line == "":
            in_headers = False
        elif in_headers and line[0] in " \t":
            if mails[-1]:  # else it is of the separator
                mails[-1][-1] += "\n" + line
        elif in_headers:
            mails[-1].append(line)
        before = line
    return mails


_PARTS = st.sampled_from(
    [
        *("\n", "\n\n", " ", "\t", "x", "\r", "\r\n", "\0", "\xe9", "x" * 70, "From ", "From me\n", "Received:"),
        *(SEPARATOR, "\n" + SEPARATOR, "\n\n" + SEPARATOR, HOP.format("x"), "Subject: x\n", "\n y\n"),
    ]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(_PARTS, max_size=20), size=st.integers(1, 60))
@example(parts=["\n\n", SEPARATOR], size=1)
@example(parts=["x", "\n\n y\n", "Received:", "\n\n", SEPARATOR], size=3)
def test_where_a_file_is_cut_is_of_no_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: list[str], size: int
) -> None:
    """An mbox read in pieces of any size gives the mails that reading it line by line gives."""
    text = SEPARATOR + "".join(parts)
    path = tmp_path / "list.mbox"
    path.write_bytes(text.encode("latin-1"))
    monkeypatch.setattr(mail_files, "_PIECE", size)
    assert list(header_fields(path)) == _mails_line_by_line(text.replace("\r\n", "\n"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(n_fields=st.integers(300, 360), size=st.integers(1, 600))
@example(n_fields=333, size=200)
@example(n_fields=334, size=200)
def test_headers_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_fields: int, size: int) -> None:
    """Headers longer than the bound are told apart, wherever the file is cut, and the next mail is found."""
    monkeypatch.setattr(mail_files, "_PIECE", size)
    monkeypatch.setattr(mail_files, "_LONGEST_HEADERS", 3_000)
    path = tmp_path / "list.mbox"
    path.write_text(SEPARATOR + "X: 34567\n" * n_fields + "\n\n" + SEPARATOR + "Y: z\n\n")
    first, second = header_fields(path)
    assert (first is TOO_LONG, second) == (9 * n_fields > 3_000, ["Y: z"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(), name=st.sampled_from(["m.eml", "l.mbox", "x"]), is_packed=st.booleans())
def test_any_bytes_are_read(tmp_path: Path, content: bytes, name: str, is_packed: bool) -> None:  # noqa: FBT001 - drawn
    """Whatever a file holds, it gives rows or an error in one line."""
    path = box(tmp_path, gzip.compress(content) if is_packed else content, name)
    problem = ""
    try:
        batch = read(path)
    except ValueError as raised:
        problem = str(raised)
    assert problem.isprintable()
    assert problem or batch.rows_read == batch.handovers.height + batch.rejects.height > 0


@pytest.fixture(scope="module")
def sample(real_data: Path) -> Source:
    (source,) = find_sources(real_data / "mail-sample.mbox.gz")
    return source


def test_the_sample_without_own_hosts(sample: Source) -> None:
    """12,800 mails: the counts that two slow implementations agree on."""
    batch = read_mail(sample)
    assert (batch.rows_read, batch.handovers.height, batch.notes) == (12_800, 12_786, ())
    assert set(batch.rejects["reason"]) == {"only mapi hops of on-premises Exchange servers"}
    assert batch.handovers.select(pl.col("server", "build").n_unique()).row(0) == (734, 138)
    assert dict(batch.handovers["route"].value_counts().iter_rows()) == {"relayed": 11_554, "through cloud": 1_232}


def test_the_sample_with_own_hosts(sample: Source) -> None:
    """What Exchange Online received: 1,126 direct, 106 relayed; the sightings are the same as without own hosts."""
    batch = read_mail(sample, ["*.protection.outlook.com"])
    assert (batch.rows_read, batch.handovers.height) == (12_800, 1_232)
    assert dict(batch.handovers["route"].value_counts().iter_rows()) == {"direct": 1_126, "relayed": 106}
    assert batch.sightings.equals(read_mail(sample).sightings)


@pytest.mark.parametrize("own", [(), ("*.protection.outlook.com",), ("*.outlook.com", "d?5198.example")])
def test_the_sample_read_slowly(sample: Source, tmp_path: Path, own: tuple[str, ...]) -> None:
    """Every row is the one that `mailbox` and `email` give."""
    slow = read_slowly(sample.path, tmp_path, own)
    quick = read_mail(sample, own)
    assert quick.handovers.select("sent_at", "server", "build", "hop", "route").rows() == [
        (row.sent_at, row.server, row.build, row.hop, row.route) for row in slow.messages
    ]
    assert quick.rejects.height == slow.reasons.total()
    assert {row[:-1]: row[-1] for row in quick.sightings.drop("tenant").rows()} == slow.sightings


def _fields_by_email(path: Path, scratch: Path) -> Iterator[list[tuple[str, str]]]:
    scratch.write_bytes(gzip.decompress(path.read_bytes()))
    box = mailbox.mbox(scratch, create=False)
    for key in box.iterkeys():
        yield list(BytesHeaderParser().parsebytes(box.get_bytes(key)).raw_items())


def test_the_fields_of_the_sample(sample: Source, tmp_path: Path) -> None:
    """All header fields of all mails are those that `email` finds."""
    slow = _fields_by_email(sample.path, tmp_path / "plain.mbox")
    for quick, expected in zip(header_fields(sample.path), slow, strict=True):
        split = (field.partition(":") for field in quick)
        assert [(name, value.lstrip(" \t")) for name, _, value in split] == expected
