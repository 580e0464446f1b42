"""Mails about reports: one on success, one on failure, none otherwise; and no password anywhere."""

import email
import email.policy
import json
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session
from conftest import absent
from pages import PYTHON, hostile_policy, own_policy, small_store
from test_report import FAILING
from worlds import refused

from enforcement import report
from enforcement.commands.reports import _post
from enforcement.report_index import write_index
from enforcement.report_mail import MailError, Post, mail_refusal, mail_results, read_post
from enforcement.report_runs import read_record

PASSWORD = "correct-horse"
TO = "boss@mail.example.net, admin@mail.example.net"


class Inbox:
    """What a mail server took, and who signed in."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.to: list[list[str]] = []
        self.signed_in: list[tuple[bytes, bytes]] = []
        self.refuse = ""
        self.unknown: set[str] = set()

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if address in self.unknown:
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 known"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        if self.refuse:
            return self.refuse
        content = envelope.content
        assert isinstance(content, bytes)
        self.mails.append(email.message_from_bytes(content, policy=email.policy.default))
        self.to.append([str(each) for each in envelope.rcpt_tos])
        return "250 taken"

    def authenticate(self, _server: SMTP, _session: Session, _envelope: Envelope, _how: str, who: object) -> AuthResult:
        user, password = who.login, who.password  # type: ignore[attr-defined]  # aiosmtpd's LoginPassword
        self.signed_in.append((user, password))
        return AuthResult(success=password.decode() == PASSWORD, handled=False)


@pytest.fixture
def inbox() -> Iterator[tuple[Inbox, dict[str, str]]]:
    """A mail server on loopback, and the settings that name it."""
    box = Inbox()
    server = Controller(box, hostname="127.0.0.1", port=_free_port())
    server.start()
    yield box, settings(server.port)
    server.stop()


def _free_port() -> int:
    """Find a port that nobody listens on: aiosmtpd wants to be told one."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def settings(port: int, **more: str) -> dict[str, str]:
    told = {"HOST": "127.0.0.1", "PORT": str(port), "SECURITY": "none", "FROM": "lab@mail.example.net", "TO": TO}
    return {f"ENFORCEMENT_SMTP_{key}": value for key, value in (told | more).items()}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_store(tmp_path_factory.mktemp("mail") / "traffic.duckdb")


def command(*words: str | Path, mail: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run `report` as a timer does."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("ENFORCEMENT_SMTP_")}
    return subprocess.run(
        [PYTHON, "-m", "enforcement", "report", *map(str, words)], env=clean | mail, capture_output=True, text=True,
        check=False, timeout=300,
    )  # fmt: skip


def test_a_weekly_report_by_a_timer(store: Path, tmp_path: Path, inbox: tuple[Inbox, dict[str, str]]) -> None:
    """`weekly --as-of yesterday` runs once a day whatever is asked, and is mailed once, its page attached."""
    box, mail = inbox
    asked = ("weekly", "--as-of", "yesterday", "-p", "draws", "20", "--store", store, "--out", tmp_path)
    before = datetime.now(tz=UTC).date()
    done = command(*asked, mail=mail)
    assert done.returncode == 0, done.stderr
    again = command(*asked, "--format", "json", mail=mail)
    if datetime.now(tz=UTC).date() != before:
        pytest.skip("a day has just begun")
    assert again.returncode == 0
    answer = json.loads(again.stdout)
    assert (answer["state"], answer["already_run"]) == ("done", True)
    (sent,) = box.mails
    assert box.to == [["boss@mail.example.net", "admin@mail.example.net"]]
    yesterday = before - timedelta(days=1)
    assert sent["Subject"] == f"weekly: done, as of {yesterday}"
    assert sent["Auto-Submitted"] == "auto-generated"
    text = sent.get_body().get_content()  # type: ignore[union-attr]  # it has a body
    assert f"On {yesterday}, " in text
    assert "The last mail is of 2026-10-31" in text
    assert "vulnerable servers: " in text
    (page,) = sent.iter_attachments()
    assert page.get_content_type() == "text/html"
    assert page.get_filename() == f"weekly-{answer['run']}.html"
    assert page.get_payload(decode=True) == Path(answer["page"]).read_bytes()


def test_a_failed_run_is_mailed_and_ends_with_1(
    store: Path, tmp_path: Path, inbox: tuple[Inbox, dict[str, str]]
) -> None:
    """The mail says why; its page is attached; the exit code is that of a failed check."""
    box, mail = inbox
    policy = own_policy(tmp_path, guardrail=FAILING)
    done = command("06_export", "-p", "policy", policy, "--store", store, "--out", tmp_path / "out", mail=mail)
    assert done.returncode == 1
    (sent,) = box.mails
    assert sent["Subject"] == "06_export: failed"
    text = sent.get_body().get_content()  # type: ignore[union-attr]  # it has a body
    assert "This run failed: not exported: guardrails do not hold" in text
    assert len(list(sent.iter_attachments())) == 1


def test_a_report_that_cannot_begin_is_mailed_and_ends_with_2(
    tmp_path: Path, inbox: tuple[Inbox, dict[str, str]]
) -> None:
    """No store, no run: the mail says so in a line."""
    box, mail = inbox
    done = command("weekly", "--store", tmp_path / "none.duckdb", "--out", tmp_path, mail=mail)
    assert done.returncode == 2
    assert "no such store" in done.stderr
    (sent,) = box.mails
    assert sent["Subject"] == "weekly: could not run"
    assert "no such store" in sent.get_content()


@pytest.fixture(scope="module")
def explored(store: Path, tmp_path_factory: pytest.TempPathFactory) -> report.RunResult:
    return report.run_report("00_explore", {}, store=store, out=tmp_path_factory.mktemp("explored"))


def _untold(result: report.RunResult) -> None:
    path = result.page.parent / "run.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(record | {"mailed_at": None, "mailed_to": []}), encoding="utf-8")


def test_without_settings_nothing_is_sent(
    store: Path, explored: report.RunResult, inbox: tuple[Inbox, dict[str, str]]
) -> None:
    """Nothing is mailed unless a server is named; once one is, a run that was not told of yet is."""
    box, mail = inbox
    _untold(explored)
    asked = ("00_explore", "--store", store, "--out", explored.page.parents[2])
    assert command(*asked, mail={}).returncode == 0
    assert box.mails == []
    assert command(*asked, "--dry-run", mail=mail).returncode == 0
    assert box.mails == []
    assert command(*asked, mail=mail).returncode == 0
    assert [sent["Subject"] for sent in box.mails] == ["00_explore: done"]


def test_a_mail_that_fails_is_tried_again(explored: report.RunResult, inbox: tuple[Inbox, dict[str, str]]) -> None:
    """The run stays done; what could not be sent is said in a line, and the next report sends it, once."""
    box, mail = inbox
    _untold(explored)
    post = read_post(mail)
    assert post is not None
    box.refuse = "451 4.3.0 come back later"
    with pytest.raises(MailError, match=r"could not be sent by 127\.0\.0\.1, port \d+ \(none\): .*come back later"):
        mail_results(post, [explored])
    box.refuse = ""
    assert [mail_results(post, [explored]) for _ in range(3)] == [1, 0, 0]
    assert len(box.mails) == 1
    nobody = Post(host="127.0.0.1", port=1, security="none", sender="a@b.example", recipients=("c@d.example",))
    with pytest.raises(MailError, match="could not be sent"):
        mail_refusal(nobody, "weekly", "why")


def test_whom_the_server_refuses_is_tried_again_alone(
    explored: report.RunResult, inbox: tuple[Inbox, dict[str, str]]
) -> None:
    """One of two addresses is unknown: said each time until it is known; the other one has its mail once."""
    box, mail = inbox
    _untold(explored)
    post = read_post(mail)
    assert post is not None
    boss, admin = post.recipients
    box.unknown = {admin}
    with pytest.raises(MailError, match=f"the mail went out, but not to {admin}: refused by 127.0.0.1"):
        mail_results(post, [explored])
    with pytest.raises(MailError, match=r"could not be sent .*no such user"):
        mail_results(post, [explored])
    assert box.to == [[boss]]
    box.unknown = set()
    assert [mail_results(post, [explored]) for _ in range(2)] == [1, 0]
    assert box.to == [[boss], [admin]]
    assert boss not in (explored.page.parent / "run.json").read_text(encoding="utf-8")


def test_two_reports_at_once_mail_once(explored: report.RunResult, inbox: tuple[Inbox, dict[str, str]]) -> None:
    """Whoever comes second waits, and finds the mail gone out."""
    box, mail = inbox
    _untold(explored)
    post = read_post(mail)
    assert post is not None
    with ThreadPoolExecutor(4) as pool:
        sent = list(pool.map(lambda _: mail_results(post, [explored]), range(4)))
    assert sorted(sent) == [0, 0, 0, 1]
    assert len(box.mails) == 1


def test_names_from_outside_do_not_steer_a_mail(
    store: Path, tmp_path: Path, inbox: tuple[Inbox, dict[str, str]]
) -> None:
    """A policy full of attacks, and errors of several lines, add no header and no part."""
    box, mail = inbox
    result = report.run_report(
        "02_policy", {"policy": str(hostile_policy(tmp_path))}, store=store, out=tmp_path / "out"
    )
    post = read_post(mail)
    assert post is not None
    assert mail_results(post, [result]) == 1
    mail_refusal(post, "weekly\r\nBcc: evil@example.org", "a\r\n.\r\nMAIL FROM:<x@y>\r\nb")
    assert box.to == [["boss@mail.example.net", "admin@mail.example.net"]] * 2
    assert [sent["Bcc"] for sent in box.mails] == [None, None]
    assert "MAIL FROM:<x@y> b" in box.mails[1].get_content()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("openssl"):
        absent("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-days",
         "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    return folder


def test_a_password_goes_over_a_closed_line_and_nowhere_else(
    store: Path, explored: report.RunResult, certificate: Path
) -> None:
    """STARTTLS with a known certificate, signed in; the password is in no file, no output, no mail."""
    box = Inbox()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    server = Controller(
        box, hostname="127.0.0.1", port=_free_port(), tls_context=context, authenticator=box.authenticate,
        auth_required=True, require_starttls=True,
    )  # fmt: skip
    server.start()
    mail = settings(server.port, SECURITY="starttls", USER="lab", PASSWORD=PASSWORD)
    known = {"SSL_CERT_FILE": str(certificate / "cert.pem")}
    _untold(explored)
    out = explored.page.parents[2]
    asked = ("00_explore", "--store", store, "--out", out)
    try:
        stranger = command(*asked, mail=mail)
        wrong = command(*asked, mail=mail | known | {"ENFORCEMENT_SMTP_PASSWORD": "wrong-horse"})
        right = command(*asked, mail=mail | known)
    finally:
        server.stop()
    assert [each.returncode for each in (stranger, wrong, right)] == [1, 1, 0]
    assert "certificate" in stranger.stderr
    assert "535" in wrong.stderr
    assert set(box.signed_in) == {(b"lab", b"wrong-horse"), (b"lab", PASSWORD.encode())}
    (sent,) = box.mails
    told = "".join(each.stdout + each.stderr for each in (stranger, wrong, right)) + sent.as_string()
    assert PASSWORD not in told
    assert "wrong-horse" not in told
    for path in out.rglob("*"):
        assert not path.is_file() or PASSWORD.encode() not in path.read_bytes()


def test_settings_come_from_a_file_too(tmp_path: Path) -> None:
    """The environment counts before the file; a password file keeps the secret out of both."""
    secret = tmp_path / "secret"
    secret.write_text(PASSWORD + "\n", encoding="utf-8")
    file = tmp_path / "smtp.toml"
    file.write_text(
        f'host = "mail.example.net"\nfrom = "lab@mail.example.net"\nto = ["a@b.example"]\nuser = "lab"\n'
        f'password_file = "{secret}"\n',
        encoding="utf-8",
    )
    post = read_post({"ENFORCEMENT_SMTP_FILE": str(file), "ENFORCEMENT_SMTP_TO": "c@d.example"})
    assert post is not None
    assert (post.port, post.security, post.recipients, post.password) == (587, "starttls", ("c@d.example",), PASSWORD)
    assert PASSWORD not in repr(post)
    assert read_post({"HOME": "/"}) is None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"HOST": ""}, "mail: no host is given (expected ENFORCEMENT_SMTP_HOST, or `host` in ENFORCEMENT_SMTP_FILE)"),
        ({"PORT": "smtp"}, "mail: port = 'smtp' (expected a number from 1 to 65535)"),
        ({"SECURITY": "ssl"}, "mail: security = 'ssl' (expected one of starttls, tls, none)"),
        ({"TO": "nobody"}, "mail: to = 'nobody' (expected an address"),
        ({"TO": " , "}, "mail: to names nobody"),
        ({"FROM": "a@b.example\nBcc: c@d.example"}, "mail: from = 'a@b.example\\nBcc: c@d.example' ("),
        ({"USER": "lab", "PASSWORD": "hörse"}, "mail: user or password holds letters outside of ASCII"),
        ({"HOST": "mail.example.net", "PASSWORD": PASSWORD, "USER": "lab"}, "mail: a password over an open line to"),
    ],
)  # fmt: skip
def test_bad_settings_are_said_before_anything_runs(changed: dict[str, str], message: str) -> None:
    """Each is a line that names the setting, the value and what was expected, never the password."""
    with pytest.raises(ValueError, match=r"^mail: ") as error:
        read_post(settings(25, **changed))
    assert str(error.value).startswith(message)
    assert PASSWORD not in str(error.value)


def test_kernels_do_not_inherit_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs notebooks has no use for it."""
    for key, value in settings(25, USER="lab", PASSWORD=PASSWORD).items():
        monkeypatch.setenv(key, value)
    assert _post().password == PASSWORD
    assert "ENFORCEMENT_SMTP_PASSWORD" not in os.environ


def test_a_broken_file_of_settings_does_not_tell_its_password(tmp_path: Path) -> None:
    file = tmp_path / "smtp.toml"
    file.write_text(f"password = {PASSWORD}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"^smtp\.toml: not TOML") as error:
        read_post({"ENFORCEMENT_SMTP_FILE": str(file)})
    assert "horse" not in str(error.value)


def test_a_run_after_a_killed_one_is_done(store: Path, tmp_path: Path) -> None:
    """A program that dies under way leaves a failed run; the next report makes it anew, and the index says done."""
    script = (
        "import os, signal, sys; from pathlib import Path; from enforcement import report, report_kernel\n"
        "report_kernel.papermill.execute_notebook = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"report.run_report('00_explore', {{}}, store=Path({str(store)!r}), out=Path({str(tmp_path)!r}))\n"
    )
    assert subprocess.run([PYTHON, "-c", script], check=False).returncode == -9
    write_index(tmp_path)
    assert "One report failed when last run." in (tmp_path / "index.html").read_text(encoding="utf-8")
    result = report.run_report("00_explore", {}, store=store, out=tmp_path)
    assert (result.state, result.already_run) == ("done", False)
    record = read_record(result.page.parent)
    assert record is not None
    assert (record["state"], record["error"]) == ("done", None)
    assert "failed when last run" not in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_a_day_after_today_is_no_report(tmp_path: Path) -> None:
    """A timer whose clock is wrong is told so, with exit code 2, and nothing runs."""
    line = refused("report", "weekly", "--as-of", "2099-01-01", "--out", tmp_path)
    assert line.startswith("enforcement: --as-of 2099-01-01 is after today (expected ")
    assert not (tmp_path / "weekly").exists()
