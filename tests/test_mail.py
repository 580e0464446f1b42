"""Mail becomes rows: hand-overs, sightings and rejects; nothing is lost without a word."""

from datetime import datetime
from pathlib import Path

import polars as pl
import pytest
from mails import HOP, MAPI, SEPARATOR, box, mail, read, servers, sightings_of
from reference_mail import read_mail as read_slowly

from enforcement.importers.mail import read_mail
from enforcement.importers.mail_files import Source, find_sources


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
    assert sightings_of(batch).rows() == [
        ("b.example", "15.1.2507.39", None, "mapi", day, 2),
        ("b.example", "15.1.2507.39", None, "smtp", day, 1),
    ]
    assert batch.rejects.rows() == [(2, "only mapi hops of on-premises Exchange servers", " ".join(MAPI.split()))]
    assert (batch.rows_read, batch.notes) == (2, ())


def test_header_names_in_any_case(tmp_path: Path) -> None:
    """Received is Received in capitals too; a field that only begins alike is none."""
    text = f"X-{HOP.format('x.example')}Received-By: a\nRECEIVED{HOP.format('one.example')[8:]}" + mail("two.example")
    assert servers(read(box(tmp_path, SEPARATOR + text))) == ["one.example"]


def test_a_reject_of_a_folder_names_its_file(tmp_path: Path) -> None:
    """Where a source has many files, an excerpt begins with the file's name, made fit to keep."""
    for name in ("a.eml", "b\n\udcff.eml"):
        (tmp_path / name).write_text(MAPI + "\n")
    excerpts = read(tmp_path).rejects["excerpt"].to_list()
    assert [text.split(" ")[0] for text in excerpts] == ["a.eml:", "b"]
    assert all(text.isprintable() for text in excerpts)


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
    assert (batch.rows_read, batch.handovers.height, sightings_of(batch)["server"].to_list()) == (1, 0, ["two.example"])
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
    assert set(sightings_of(batch)["server"]) == {"up.example", "one.example"}


def test_progress_is_told(tmp_path: Path) -> None:
    """The bytes done grow from file to file up to all of them."""
    for name in ("a.eml", "b.eml", "c.eml"):
        (tmp_path / name).write_text(mail("one.example"))
    told: list[tuple[int, int]] = []
    (source,) = find_sources(tmp_path)
    read_mail(source, report=lambda done, total: told.append((done, total)))
    size = len(mail("one.example"))
    assert told == [(size, 3 * size), (2 * size, 3 * size), (3 * size, 3 * size)]


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
    assert sightings_of(batch).equals(sightings_of(read_mail(sample)))


@pytest.mark.parametrize("own", [(), ("*.protection.outlook.com",), ("*.outlook.com", "d?5198.example")])
def test_the_sample_read_slowly(sample: Source, tmp_path: Path, own: tuple[str, ...]) -> None:
    """Every row is the one that `mailbox` and `email` give."""
    slow = read_slowly(sample.path, tmp_path, own)
    quick = read_mail(sample, own)
    assert quick.handovers.select("sent_at", "server", "build", "hop", "route").rows() == [
        (row.sent_at, row.server, row.build, row.hop, row.route) for row in slow.messages
    ]
    assert quick.rejects.height == slow.reasons.total()
    assert {row[:-1]: row[-1] for row in sightings_of(quick).drop("tenant").rows()} == slow.sightings
