"""Sources: what a path names is found, known by its content, and read by the importer of its kind."""

import gzip
import os
from datetime import date
from pathlib import Path

import pytest
from stores import days_of

from enforcement.importers.sources import Source, find_sources
from enforcement.store import ImportRecord, Store, create_store, open_store

MAIL = (
    "Received: from a.example ([192.0.2.1]) by {server} ([192.0.2.2]) with Microsoft SMTP Server id 15.1.2507.61;"
    " Sat, 31 Jan 2026 07:05:09 +0000\nDate: Sat, 31 Jan 2026 07:05:00 +0000\n\nbody\n"
)
TABLE = "sent_at,server,build\n2026-01-31T07:05:09Z,mail.contoso.com,15.1.2507.61\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with single mails, a Maildir, two mboxes, two tables, and what is neither."""
    folder = tmp_path / "history"
    for name in ("sub", "Maildir/cur", "Maildir/new", "Maildir/tmp"):
        (folder / name).mkdir(parents=True)
    for name, server in (
        ("one.eml", "one.example"),
        ("two.eml", "two.example"),
        ("Maildir/cur/1:2,S", "three.example"),
        ("Maildir/new/2", "four.example"),
    ):
        (folder / name).write_text(MAIL.format(server=server))
    separator = "From someone@example.com Sat Jan 31 07:05:09 2026\n"
    (folder / "list.mbox").write_text((separator + MAIL.format(server="five.example") + "\n") * 2)
    (folder / "sub" / "old.mbox.gz").write_bytes(
        gzip.compress((separator + MAIL.format(server="six.example")).encode())
    )
    (folder / "traffic.csv").write_text(TABLE)
    (folder / "sub" / "traffic.csv.gz").write_bytes(gzip.compress(TABLE.replace("mail", "mail2").encode()))
    (folder / "notes.txt").write_text("neither mail nor table\n")
    return folder


def _unheard(done: int, total: int) -> None:
    """Take reports of progress that nobody reads."""


def _add_all(store: Store, found: list[Source]) -> list[ImportRecord]:
    return [
        store.add(
            source=source.name,
            sha256=source.sha256(),
            options=source.options,
            batches=source.read(_unheard),
        )
        for source in found
    ]


def test_a_folder_is_searched(folder: Path, tmp_path: Path) -> None:
    """A folder's single mails are one source, so is a Maildir; each mbox and table is its own; all come in once."""
    found = find_sources(folder)
    names = [str(Path(source.name).relative_to(folder)) for source in found]
    assert sorted(names) == [".", "Maildir", "list.mbox", "sub/old.mbox.gz", "sub/traffic.csv.gz", "traffic.csv"]
    with create_store(tmp_path / "store") as store:
        records = _add_all(store, found)
        assert sum(record.rows_read for record in records) == 9
        servers = set(store.servers()["server"])
        again = _add_all(store, find_sources(folder))
    assert servers == {f"{n}.example" for n in ("one", "two", "three", "four", "five", "six")} | {
        "mail.contoso.com",
        "mail2.contoso.com",
    }
    assert all(record.already_imported for record in again)


def test_what_is_neither_is_counted_once_and_tables_are_not(folder: Path, tmp_path: Path) -> None:
    """Files that are neither mail nor a table are told as passed over; a pipe is one, whatever its name."""
    os.mkfifo(folder / "sub" / "pipe.csv")
    (folder / "gone.parquet").symlink_to(tmp_path / "nowhere")
    told = "files passed over, because they hold nothing that can be read here: {}"
    with create_store(tmp_path / "store") as store:
        records = _add_all(store, find_sources(folder))
    assert [note for record in records for note in record.notes if "passed" in note] == [told.format(3)]
    tables = tmp_path / "tables"
    tables.mkdir()
    os.mkfifo(tables / "pipe.csv")
    (tables / "a.csv").write_text(TABLE)
    (tables / "b.csv").write_text(TABLE.replace("mail", "mail2"))
    with create_store(tmp_path / "store2") as store:
        records = _add_all(store, find_sources(tables))
    assert [record.notes[:1] for record in records] == [(told.format(1),), ()]


def test_a_folder_that_cannot_be_looked_into(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables beside it do not hide that mail may be missing."""

    def refuse(self: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(ValueError, match="cannot be read: Permission denied"):
        find_sources(folder)


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("s3://bucket/x.parquet", "s3://bucket/x.parquet"),
        ("HTTPS://host/a/x.csv", "HTTPS://host/a/x.csv"),
        ("file:///mail/x.csv", "file:///mail/x.csv"),
    ],
)
def test_an_address_is_no_path(given: str, address: str) -> None:
    """What is not on this machine is refused in a line that says what can be done."""
    with pytest.raises(ValueError, match="an address") as raised:
        find_sources(Path(given))
    assert str(raised.value) == (
        f"{address}: an address (expected a path on this machine: copy it here, or leave Parquet where it lies:"
        " enforcement replay POLICY --engine spark --traffic ADDRESS)"
    )


def test_a_folder_may_be_called_like_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there is read, whatever its name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:").mkdir()
    (tmp_path / "s3:" / "traffic.csv").write_text(TABLE)
    assert len(find_sources(Path("s3:/traffic.csv"))) == 1


def test_content_names_a_source(folder: Path, tmp_path: Path) -> None:
    """A copy elsewhere, or a mail that was read in its Maildir, is the same import; a mail more is another."""
    (maildir,) = find_sources(folder / "Maildir")
    before = maildir.sha256()
    (folder / "Maildir" / "new" / "2").rename(folder / "Maildir" / "cur" / "2:2,RS")
    assert find_sources(folder / "Maildir")[0].sha256() == before
    (folder / "Maildir" / "new" / "3").write_text(MAIL.format(server="seven.example"))
    assert find_sources(folder / "Maildir")[0].sha256() != before
    copy = tmp_path / "copy.csv"
    copy.write_text(TABLE)
    assert find_sources(copy)[0].sha256() == find_sources(folder / "traffic.csv")[0].sha256()


def test_options_name_an_import_too(folder: Path, tmp_path: Path) -> None:
    """Own hosts and rounding are part of what an import is known by; their order and case are not."""
    mbox = folder / "list.mbox"
    with create_store(tmp_path / "store") as store:
        _add_all(store, find_sources(mbox, own_hosts=["*.B.example", "*.a.example"]))
        (again,) = _add_all(store, find_sources(mbox, own_hosts=["*.a.example", "*.b.example", "*.a.example"]))
        assert again.already_imported
        for found in (find_sources(mbox), find_sources(mbox, own_hosts=["*.c.example"])):
            with pytest.raises(ValueError, match="enforcement forget 1"):
                _add_all(store, found)


def test_own_hosts_change_nothing_in_a_table(folder: Path, tmp_path: Path) -> None:
    """A table says itself what was handed over how; that the option is of no use is told."""
    path = folder / "traffic.csv"
    with create_store(tmp_path / "store") as store:
        (record,) = _add_all(store, find_sources(path, own_hosts=["*.example"]))
        assert record.notes == ("traffic.csv: a table names no own hosts, the option changes nothing",)
        assert _add_all(store, find_sources(path))[0].already_imported


def test_rounded_times_reach_the_store(folder: Path, tmp_path: Path) -> None:
    """The option goes the whole way, and only `hour` is one."""
    with create_store(tmp_path / "store") as store:
        _add_all(store, find_sources(folder / "traffic.csv", times_rounded_to="hour"))
        assert store.history().are_times_rounded
    with pytest.raises(ValueError, match="cannot be rounded to 'day'"):
        find_sources(folder, times_rounded_to="day")


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    """A path that is not there, an empty file, a file or folder of neither kind: the line says what can be read."""
    (tmp_path / "empty").touch()
    (tmp_path / "text.txt").write_text("just words\n")
    (tmp_path / "nothing").mkdir()
    for name in ("missing", "empty", "text.txt", "nothing"):
        with pytest.raises(ValueError, match=name) as raised:
            find_sources(tmp_path / name)
        assert str(raised.value).isprintable()
        assert ("(.csv, .csv.gz, .parquet)" in str(raised.value)) == (name != "missing")


def test_a_damaged_source_leaves_the_others(folder: Path, tmp_path: Path) -> None:
    """A source that breaks while it is read is not imported at all; those before it stay."""
    packed = folder / "sub" / "old.mbox.gz"
    packed.write_bytes(packed.read_bytes()[:-9])
    with create_store(tmp_path / "store") as store:
        with pytest.raises(ValueError, match=r"old\.mbox\.gz"):
            _add_all(store, sorted(find_sources(folder), key=lambda source: "old" in source.name))
        sources = store.imports()["source"].to_list()
    assert len(sources) == 5
    assert not any("old" in source for source in sources)


def test_the_real_sample(real_data: Path, tmp_path: Path) -> None:
    """The counts that two slow readers of the sample agree on come out of the store, with and without own hosts."""
    path = real_data / "mail-sample.mbox.gz"
    with create_store(tmp_path / "all") as store:
        (record,) = _add_all(store, find_sources(path))
    assert (record.rows_read, record.rows_stored, record.rows_rejected) == (12_800, 12_786, 14)
    with open_store(tmp_path / "all") as store:
        history = store.history()
        handed = days_of(history).join(history.builds, on="build_id")
        assert (handed["server_id"].n_unique(), handed["build"].n_unique()) == (734, 138)
        routes = dict(store.query("select route, sum(messages) from traffic group by all").rows())
        assert routes == {"relayed": 11_554, "through cloud": 1_232}
        assert days_of(store.history(to_on=date(2019, 1, 1))).is_empty()
    with create_store(tmp_path / "own") as store:
        _add_all(store, find_sources(path, own_hosts=["*.protection.outlook.com"]))
        routes = dict(store.query("select route, sum(messages) from traffic group by all").rows())
        assert routes == {"direct": 1_126, "relayed": 106}
