"""One mail on a report's success and one on its failure, when an SMTP server is named; else nothing is sent."""

import hashlib
import smtplib
import ssl
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import Any, Final

from enforcement.names import printable, shown
from enforcement.report import RunResult
from enforcement.report_page import command
from enforcement.report_runs import State, held, now, read_record, write_record

PREFIX: Final = "ENFORCEMENT_SMTP_"
_KEYS: Final = ("host", "port", "security", "user", "password", "password_file", "from", "to")
_PORTS: Final = {"starttls": 587, "tls": 465, "none": 25}  # RFC 6409, RFC 8314, RFC 5321
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_PATIENCE_SECONDS: Final = 30
_MOST_ATTACHED: Final = 15_000_000  # octets: what mail servers commonly take is 25 MB, and base64 adds a third
_LONGEST_SUBJECT: Final = 150


class MailError(ValueError):
    """A mail that could not be sent: one line, without the password."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """The mail server that takes reports, who they are from, and who gets them."""

    host: str
    port: int
    security: str
    sender: str
    recipients: tuple[str, ...]
    user: str | None = None
    password: str | None = field(default=None, repr=False)


def read_post(environment: Mapping[str, str]) -> Post | None:
    """Read the settings of mail from the environment, and from the TOML file that it names; None: no server is named.

    ENFORCEMENT_SMTP_HOST, _PORT, _SECURITY (starttls, tls or none), _USER, _PASSWORD or _PASSWORD_FILE, _FROM, _TO
    (several between commas); ENFORCEMENT_SMTP_FILE names a file with the same keys in small letters. The environment
    counts before the file.
    """
    given: dict[str, Any] = {}
    if path := environment.get(f"{PREFIX}FILE"):
        given |= _read_file(Path(path))
    for key in _KEYS:
        if value := environment.get(PREFIX + key.upper()):
            given[key] = value
    if not given:
        return None
    for key in ("host", "from", "to"):
        if not given.get(key):
            raise ValueError(f"mail: no {key} is given (expected {PREFIX}{key.upper()}, or `{key}` in {PREFIX}FILE)")
    security = str(given.get("security", "starttls")).lower()
    if security not in _PORTS:
        raise ValueError(f"mail: security = {shown(security)} (expected one of {', '.join(_PORTS)})")
    password = _password(given)
    host = _one_line("host", given["host"])
    user = _one_line("user", given["user"]) if given.get("user") else None
    if not (user or "").isascii() or not (password or "").isascii():
        raise ValueError("mail: user or password holds letters outside of ASCII (expected ones that SMTP servers take)")
    if password and security == "none" and host not in _LOOPBACK:
        raise ValueError(f"mail: a password over an open line to {host} (expected security starttls or tls)")
    return Post(
        host=host,
        port=_port(given.get("port", _PORTS[security])),
        security=security,
        sender=_address("from", given["from"]),
        recipients=_recipients(given["to"]),
        user=user,
        password=password,
    )


def _recipients(value: object) -> tuple[str, ...]:
    to = value.split(",") if isinstance(value, str) else value
    if not isinstance(to, list) or not all(isinstance(each, str) for each in to):
        raise ValueError("mail: to is no list of addresses (expected a text, or a list of texts)")
    recipients = tuple(_address("to", each) for each in to if each.strip())
    if not recipients:
        raise ValueError("mail: to names nobody (expected one address or more)")
    return recipients


def _read_file(path: Path) -> dict[str, Any]:
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        # What the parser says may quote a line, and with it the password.
        raise ValueError(f"{path.name}: not TOML (expected the keys {', '.join(_KEYS)})") from None
    if unknown := sorted(set(found) - set(_KEYS)):
        raise ValueError(f"{path.name}: unknown key {shown(unknown[0])} (expected {', '.join(_KEYS)})")
    return found


def _password(given: Mapping[str, Any]) -> str | None:
    if given.get("password"):
        return str(given["password"])
    path = given.get("password_file")
    return Path(str(path)).read_text(encoding="utf-8").removesuffix("\n") if path else None


def _port(value: object) -> int:
    text = str(value)
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:6]) <= 65535):
        raise ValueError(f"mail: port = {shown(text)} (expected a number from 1 to 65535)")
    return int(text)


def _one_line(key: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError(f"mail: {key} = {shown(str(value))} (expected a text of one line)")
    return value.strip()


def _address(key: str, value: object) -> str:
    text = _one_line(key, value)
    local, at, domain = text.rpartition("@")
    if not (local and at and domain) or any(sign in text for sign in ' <>,;"'):
        raise ValueError(f"mail: {key} = {shown(text)} (expected an address, e.g. reports@mail.example.net)")
    return text


def mail_results(post: Post, results: Sequence[RunResult]) -> int:
    """Send one mail about the runs of a report that none was sent about yet; gives how many runs it was about.

    A run's record says when its mail went out: a run that was there already is told once, and one whose mail could not
    be sent is told by the next report that finds it. Whom the server refused is tried again then, nobody else.
    """
    with ExitStack() as holding:
        due: list[tuple[RunResult, dict[str, Any]]] = []
        for result in sorted(results, key=lambda result: str(result.page)):
            holding.enter_context(held(result.page.parent))
            record = read_record(result.page.parent)
            if record is not None and not record.get("mailed_at"):
                due.append((result, record))
        if not due:
            return 0
        owed = tuple(to for to in post.recipients if any(_hash(to) not in _told(record) for _, record in due))
        refused = _send(replace(post, recipients=owed), _mail(post, due)) if owed else []
        reached = {_hash(to) for to in owed if to not in refused}
        for result, record in due:
            when = {} if refused else {"mailed_at": now()}
            write_record(result.page.parent, record | {"mailed_to": sorted(_told(record) | reached)} | when)
    _expect_all(post, refused)
    return len(due)


def _told(record: Mapping[str, Any]) -> set[str]:
    """Give whom a run's mail has reached, as hashes: a folder of reports may be shown to others."""
    return set(record.get("mailed_to") or ())


def _hash(address: str) -> str:
    return hashlib.sha256(address.encode()).hexdigest()[:16]


def _expect_all(post: Post, refused: Sequence[str]) -> None:
    if refused:
        named = ", ".join(map(_plain, refused))
        raise MailError(f"the mail went out, but not to {named}: refused by {post.host} (the next report tries again)")


def mail_refusal(post: Post, name: str | None, told: str) -> None:
    """Send a mail about a report that could not begin: nothing has run, so there is no page."""
    mail = _headed(post, f"{name or 'reports'}: could not run")
    mail.set_content(f"The report could not run.\n\n{_plain(told)}\n")
    _expect_all(post, _send(post, mail))


def _mail(post: Post, due: Sequence[tuple[RunResult, Mapping[str, Any]]]) -> EmailMessage:
    failed = [result for result, _ in due if result.state is not State.DONE]
    names = ", ".join(result.name for result, _ in due)
    state = "done" if not failed else "failed" if len(failed) == len(due) else f"{len(failed)} of {len(due)} failed"
    last_on = {str(record.get("parameters", {}).get("to_on") or "") for _, record in due} - {""}
    mail = _headed(post, f"{names}: {state}{f', as of {max(last_on)}' if last_on else ''}")
    attached, left_out = _attachments(due)
    lines: list[str] = []
    for result, record in due:
        lines += [f"{result.name}: {result.state}", ""]
        lines += [f"This run failed: {_plain(result.error)}", ""] if result.error else []
        lines += [_plain(record["answer"]), ""] if record.get("answer") else []
        lines += [f"- {_plain(name)}: {_plain(value)}" for name, value in record.get("figures") or ()]
        lines += ["", f"Page: {result.page}", f"Again: {_plain(command(record))}", ""]
    if left_out:
        lines.append(f"Not attached, as the mail would be too large: {', '.join(left_out)}")
    mail.set_content("\n".join(lines).strip() + "\n")
    for name, page in attached.items():
        mail.add_attachment(page, maintype="text", subtype="html", filename=name)
    return mail


def _attachments(due: Sequence[tuple[RunResult, Mapping[str, Any]]]) -> tuple[dict[str, bytes], list[str]]:
    attached: dict[str, bytes] = {}
    left_out = []
    room = _MOST_ATTACHED
    for result, _ in due:
        name = f"{result.name}-{result.run}.html"
        page = result.page.read_bytes() if result.page.is_file() else b""
        if not page or len(page) > room:
            left_out.append(name)
            continue
        attached[name] = page
        room -= len(page)
    return attached, left_out


def _headed(post: Post, subject: str) -> EmailMessage:
    mail = EmailMessage()
    mail["Subject"] = _plain(subject)[:_LONGEST_SUBJECT]
    mail["From"] = post.sender
    mail["To"] = ", ".join(post.recipients)
    mail["Date"] = formatdate()
    mail["Message-ID"] = make_msgid(domain=post.sender.rpartition("@")[2])
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody on holiday answers it
    return mail


def _plain(value: object) -> str:
    return printable(" ".join(str(value).split()))


def _send(post: Post, mail: EmailMessage) -> list[str]:
    """Send a mail; gives the addresses that the server refused, which are not all."""
    try:
        if post.security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                post.host, post.port, timeout=_PATIENCE_SECONDS, context=ssl.create_default_context()
            )
        else:
            server = smtplib.SMTP(post.host, post.port, timeout=_PATIENCE_SECONDS)
        with server:
            if post.security == "starttls":
                server.starttls(context=ssl.create_default_context())
            if post.user and post.password:
                server.login(post.user, post.password)
            return list(server.send_message(mail, from_addr=post.sender, to_addrs=post.recipients))
    except (smtplib.SMTPException, OSError) as problem:
        raise MailError(_why(post, problem)) from None


def _why(post: Post, problem: Exception) -> str:
    told = _plain(problem)
    if post.password:
        told = told.replace(post.password, "…")
    return (
        f"the mail could not be sent by {post.host}, port {post.port} ({post.security}): "
        f"{told or type(problem).__name__} (the run is as it is; the next report tries the mail again)"
    )
