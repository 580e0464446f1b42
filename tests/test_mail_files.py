"""Mail in files: each mail is found once, whatever the file is like."""

import gzip
import mailbox
import os
import tracemalloc
from collections.abc import Iterator
from email.parser import BytesHeaderParser
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from mails import HOP, SEPARATOR, box, mail, read, servers, sightings_of

from enforcement.importers import mail_files
from enforcement.importers.mail import read_mail
from enforcement.importers.mail_files import TOO_LONG, find_sources, header_fields, in_folder


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
    assert set(sightings_of(batch)["server"]) == {"one.example", "two.example"}


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
    found, n_passed_over = in_folder(tmp_path)
    by_path = {str(source.path.relative_to(tmp_path)): servers(read_mail(source)) for source in found}
    assert by_path == {
        "list.mbox": ["box.example"],
        "Maildir": ["m1.example", "m2.example"],
        "Maildir/.Sent": ["m4.example"],
        "sub": ["m5.example", "m6.example"],
    }
    assert n_passed_over == 4
    assert find_sources(tmp_path) == found


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
        ("pipe", "neither a file nor a folder"),
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
def test_any_bytes_are_read(tmp_path: Path, content: bytes, name: str, is_packed: bool) -> None:  # noqa: FBT001 - hypothesis draws it
    """Whatever a file holds, it gives rows or an error in one line."""
    path = box(tmp_path, gzip.compress(content) if is_packed else content, name)
    problem = ""
    try:
        batch = read(path)
    except ValueError as raised:
        problem = str(raised)
    assert problem.isprintable()
    assert problem or batch.rows_read == batch.handovers.height + batch.rejects.height > 0


def _fields_by_email(path: Path, scratch: Path) -> Iterator[list[tuple[str, str]]]:
    scratch.write_bytes(gzip.decompress(path.read_bytes()))
    box = mailbox.mbox(scratch, create=False)
    for key in box.iterkeys():
        yield list(BytesHeaderParser().parsebytes(box.get_bytes(key)).raw_items())


def test_the_fields_of_the_sample(real_data: Path, tmp_path: Path) -> None:
    """All header fields of all mails are those that `email` finds."""
    path = real_data / "mail-sample.mbox.gz"
    slow = _fields_by_email(path, tmp_path / "plain.mbox")
    for quick, expected in zip(header_fields(path), slow, strict=True):
        split = (field.partition(":") for field in quick)
        assert [(name, value.lstrip(" \t")) for name, _, value in split] == expected
