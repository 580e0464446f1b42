"""Installing: the old export or the new one, whole, whenever it ends; and the way back."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from test_signing import FILES, write
from worlds import run, store_of

from enforcement.export.install import Act, InstallError, install, rollback
from enforcement.export.signing import ENVELOPE_NAME, PublicKey, make_key, read_public_key, read_signing_key
from enforcement.export.verify import verify
from enforcement.exporting import Order, export_policy
from enforcement.shipped import policy_file
from enforcement.whole_folder import write_folder
from enforcement.workbench import Setting

NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
BY = Act(at=NOW, by="anna on mx1")


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "key"
    make_key(path)
    return path


@pytest.fixture(scope="module")
def key(key_file: Path) -> PublicKey:
    return read_public_key(key_file.with_suffix(".pub"))


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory, key_file: Path) -> list[Path]:
    """Three signed exports of one day, one after the other."""
    private = read_signing_key(key_file)
    folder = tmp_path_factory.mktemp("exports")
    return [write(folder / str(n), FILES | {"policy.toml": f"{n}".encode()}, key=private, revision=n) for n in range(3)]


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step like the others, but the disk need not be waited for; processes of their own do wait."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(os, "sync", lambda: None)


def now_holds(root: Path, key: PublicKey) -> str:
    """Give the content of the export in force, which must be whole."""
    found = verify(root / "current", today=NOW.date(), key=key)
    assert found.ok, found.reasons
    return (root / "current" / "policy.toml").read_text()


def left_over(root: Path) -> list[Path]:
    return list(root.rglob(".work-*"))


def test_installing_switches_and_keeps_the_one_before(exports: list[Path], tmp_path: Path, key: PublicKey) -> None:
    root = tmp_path / "deep" / "root"
    for n, export in enumerate(exports):
        done = install(export, root, act=BY, key=key)
        assert (done.changed, done.serial, done.before) == (
            True, 2026112300 + n, None if n == 0 else 2026112300 + n - 1
        )  # fmt: skip
        assert now_holds(root, key) == str(n)
    assert (root / "current").readlink().match("versions/2026112302-*")
    assert left_over(root) == []


def test_mail_servers_may_read_and_nobody_else_may_write(exports: list[Path], tmp_path: Path, key: PublicKey) -> None:
    """Whatever the mask of who installs."""
    mask = os.umask(0o077)
    try:
        install(exports[0], tmp_path / "root", act=BY, key=key)
    finally:
        os.umask(mask)
    for path in (tmp_path / "root" / "current").resolve().rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644), path


def test_the_same_again_changes_nothing(exports: list[Path], tmp_path: Path, key: PublicKey) -> None:
    install(exports[0], tmp_path / "r", act=BY, key=key)
    before = {path: path.lstat().st_mtime_ns for path in (tmp_path / "r").rglob("*") if path.name != ".lock"}
    for given in (key, None):
        done = install(exports[0], tmp_path / "r", act=BY, key=given)
        assert (done.changed, done.reload) == (False, ())
    assert {path: path.lstat().st_mtime_ns for path in (tmp_path / "r").rglob("*") if path.name != ".lock"} == before


def test_an_older_export_is_refused_and_rollback_is_the_way(
    exports: list[Path], tmp_path: Path, key: PublicKey
) -> None:
    root = tmp_path / "root"
    for export in exports:
        install(export, root, act=BY, key=key)
    with pytest.raises(InstallError, match="older than what is installed: serial 2026112301, installed 2026112302"):
        install(exports[1], root, act=BY, key=key)
    for expected in ("1", "0"):
        done = rollback(root, act=BY, key=key)
        assert (str(done.serial)[-1], now_holds(root, key)) == (expected, expected)
    with pytest.raises(InstallError, match="none before it"):
        rollback(root, act=BY, key=key)
    assert install(exports[2], root, act=BY, key=key).before == 2026112300
    assert now_holds(root, key) == "2"


def test_one_serial_has_one_content(exports: list[Path], tmp_path: Path, key_file: Path, key: PublicKey) -> None:
    other = write(tmp_path / "other", {"policy.toml": b"other"}, key=read_signing_key(key_file), revision=1)
    install(exports[1], tmp_path / "root", act=BY, key=key)
    with pytest.raises(InstallError, match="is installed with other content"):
        install(other, tmp_path / "root", act=BY, key=key)


def test_a_signature_that_comes_later_is_installed(exports: list[Path], tmp_path: Path, key: PublicKey) -> None:
    """The same files, first unsigned: then signed is a change, and unsigned again is none."""
    unsigned = shutil.copytree(exports[1], tmp_path / "unsigned")
    (unsigned / ENVELOPE_NAME).unlink()
    root = tmp_path / "root"
    install(exports[0], root, act=BY, key=key)
    assert install(unsigned, root, act=BY).changed
    assert install(exports[1], root, act=BY, key=key).changed
    assert now_holds(root, key) == "1"
    assert not install(unsigned, root, act=BY).changed
    assert rollback(root, act=BY, key=key).serial == 2026112300


def test_a_damaged_version_is_repaired_and_never_gone_back_to(
    exports: list[Path], tmp_path: Path, key: PublicKey
) -> None:
    root = tmp_path / "root"
    install(exports[0], root, act=BY, key=key)
    install(exports[1], root, act=BY, key=key)
    (root / "current" / "policy.toml").write_text("bitten")
    assert install(exports[1], root, act=BY, key=key).changed
    assert now_holds(root, key) == "1"
    (first,) = (path for path in (root / "versions").glob("2026112300-*") if path.is_dir())
    (first / "policy.toml").write_text("bitten")
    with pytest.raises(InstallError, match=r"not rolled back: serial 2026112300: policy\.toml: changed"):
        rollback(root, act=BY, key=key)
    assert now_holds(root, key) == "1"


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (lambda record, _: record.unlink(), "its record is missing or damaged"),
        (lambda record, _: record.write_text("{"), "its record is missing or damaged"),
        (lambda _, version: shutil.rmtree(version), "serial {} is gone"),
    ],
)
def test_without_a_record_or_a_version_the_way_back_leads_to_the_newest_kept(
    exports: list[Path], tmp_path: Path, key: PublicKey, harm: Callable[[Path, Path], None], why: str
) -> None:
    """It says so; the first one has none before it."""
    first, second, third = (install(export, tmp_path, act=BY, key=key) for export in exports)
    harm(third.folder.with_name(f"{third.folder.name}.json"), second.folder)
    done = rollback(tmp_path, act=BY, key=key)
    assert done.serial == (second if second.folder.exists() else first).serial
    assert why.format(second.serial) in done.notes[0]
    assert now_holds(tmp_path, key) == str(done.serial % 10)
    third.folder.rename(tmp_path / "elsewhere")
    (tmp_path / "current").unlink()
    (tmp_path / "current").symlink_to(f"versions/{first.folder.name}")
    with pytest.raises(InstallError, match=f"serial {first.serial} is the first one kept"):
        rollback(tmp_path, act=BY, key=key)


def test_a_full_disk_is_told_with_what_it_leaves(
    exports: list[Path], tmp_path: Path, key: PublicKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(exports[0], tmp_path, act=BY, key=key)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfileobj", full)
        with pytest.raises(OSError, match="not installed: No space left on device: '") as told:
            install(exports[1], tmp_path, act=BY, key=key)
    assert told.value.filename == str(tmp_path)
    assert left_over(tmp_path) == []
    out = tmp_path / "out"
    write_folder({"a": b"old"}, out)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="not written: No space left on device: '") as told:
            write_folder({"a": b"new"}, out)
    assert told.value.filename == str(out)
    real = Path.rename
    with monkeypatch.context() as patched:  # the new folder cannot take the place that the old one has left
        patched.setattr(
            Path, "rename", lambda each, to: full() if each.suffix != ".old" and to == out else real(each, to)
        )
        with pytest.raises(OSError, match="not written"):
            write_folder({"a": b"new"}, out)
    assert (out / "a").read_bytes() == b"old"
    assert [each.name for each in tmp_path.glob(".out*")] == []


def test_an_expired_export_is_neither_installed_nor_gone_back_to(
    exports: list[Path], tmp_path: Path, key: PublicKey
) -> None:
    late = Act(at=NOW + timedelta(days=20), by="anna")
    with pytest.raises(InstallError, match="not installed: expired"):
        install(exports[0], tmp_path / "root", act=late, key=key)
    assert not (tmp_path / "root").exists()
    install(exports[0], tmp_path / "root", act=BY, key=key)
    install(exports[1], tmp_path / "root", act=BY, key=key)
    with pytest.raises(InstallError, match="not rolled back: serial 2026112300: expired"):
        rollback(tmp_path / "root", act=late, key=key)


def test_a_refused_export_leaves_no_trace(exports: list[Path], tmp_path: Path, key: PublicKey) -> None:
    broken = shutil.copytree(exports[1], tmp_path / "broken")
    (broken / "policy.toml").write_bytes(b"9")
    root = tmp_path / "root"
    install(exports[0], root, act=BY, key=key)
    before = sorted(root.rglob("*"))
    with pytest.raises(InstallError, match="changed"):
        install(broken, root, act=BY, key=key)
    assert sorted(root.rglob("*")) == before


def test_what_changes_while_it_is_copied_is_refused(
    exports: list[Path], tmp_path: Path, key: PublicKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody swaps a file between the check and the copy."""
    source = shutil.copytree(exports[0], tmp_path / "source")
    copy: Any = shutil.copyfileobj

    def copied(read: Any, written: Any) -> None:
        copy(read, written)
        written.write(b"!")

    monkeypatch.setattr(shutil, "copyfileobj", copied)
    with pytest.raises(InstallError, match="not installed: "):
        install(source, tmp_path / "root", act=BY, key=key)
    assert not (tmp_path / "root" / "current").exists()
    assert left_over(tmp_path / "root") == []


def test_a_foreign_current_is_left_alone(exports: list[Path], tmp_path: Path, key: PublicKey) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "current").mkdir()
    acts: list[Callable[[], object]] = [
        lambda: install(exports[0], root, act=BY, key=key),
        lambda: rollback(root, act=BY, key=key),
    ]
    for act in acts:
        with pytest.raises(InstallError, match="is not what `install` makes"):
            act()
    (root / "current").rmdir()
    (root / "current").symlink_to("../elsewhere")
    with pytest.raises(InstallError, match="is not what `install` makes"):
        install(exports[0], root, act=BY, key=key)
    with pytest.raises(InstallError, match="nothing is installed"):
        rollback(tmp_path / "nowhere", act=BY)


def test_versions_that_no_rollback_reaches_are_removed(tmp_path: Path, key_file: Path, key: PublicKey) -> None:
    private = read_signing_key(key_file)
    root = tmp_path / "root"
    for n in range(9):
        install(
            write(tmp_path / str(n), {"policy.toml": str(n).encode()}, key=private, revision=n), root, act=BY, key=key
        )
    kept = sorted(path.name[:10] for path in (root / "versions").iterdir() if path.is_dir())
    assert kept == [f"202611230{n}" for n in range(3, 9)]
    assert len(list((root / "versions").iterdir())) == 12
    for n in range(7, 2, -1):
        assert str(rollback(root, act=BY, key=key).serial)[-1] == str(n)


def test_it_says_what_to_reload(tmp_path: Path) -> None:
    first = {"exim/enforcement.acl": b"1", "exim/tables/0": b"1", "postfix/tables.json": b"1"}
    root = tmp_path / "root"
    done = install(write(tmp_path / "a", first), root, act=BY)
    assert [line.split(":")[0] for line in done.reload] == ["reload Exim", "Postfix needs nothing"]
    done = install(write(tmp_path / "b", first | {"exim/tables/0": b"2"}, revision=1), root, act=BY)
    assert done.reload == ("Exim needs nothing: it reads its tables anew for each message",)
    later = first | {"exim/enforcement.acl": b"2", "exim/tables/0": b"2"}
    done = install(write(tmp_path / "c", later, revision=2), root, act=BY)
    assert done.reload == ("reload Exim: it reads exim/enforcement.acl only when it starts",)


def test_another_on_failure_is_taken_over_by_hand(tmp_path: Path) -> None:
    """What a mail server does without tables stands in its own configuration: the files of a real export, by name."""
    store = store_of(tmp_path / "s", [("2026-11-20T10:00", "mx.contoso.example", "15.0.1497.48")])
    policy, said = tmp_path / "mine.toml", []
    text = policy_file("ninety-days").read_text(encoding="utf-8").replace('"ninety-days"', '"mine"', 1)
    for revision, on_failure in enumerate(("accept", "accept", "defer")):
        policy.write_text(f'{text}\n[export]\non_failure = "{on_failure}"\n', encoding="utf-8")
        out = tmp_path / f"{revision}"
        export_policy(str(policy), Setting(store=store), Order(out=out, revision=revision))
        done = install(out, tmp_path / "root", act=BY)
        said.append([line.split(":")[0] for line in done.reload if "Postfix" in line or "Exim" in line])
    by_hand = "Postfix and its milter go on as they were set up"
    assert said == [
        ["reload Exim", by_hand], ["Exim needs nothing", "Postfix needs nothing"], ["reload Exim", by_hand],
    ]  # fmt: skip
    assert "postfix/enforcement-milter.service and postfix/main.cf" in "".join(done.reload)


def test_the_record_says_who_and_when_and_no_secret(
    exports: list[Path], tmp_path: Path, key_file: Path, key: PublicKey
) -> None:
    root = tmp_path / "root"
    install(exports[0], root, act=Act(at=NOW, by="anna\x1b[2J on mx1"), key=key)
    (record,) = (root / "versions").glob("*.json")
    text = record.read_text()
    assert '"installed_at": "2026-11-24T09:30:00Z"' in text
    assert "anna\\\\x1b[2J on mx1" in text
    secret = key_file.read_text().splitlines()[1]
    assert not [path for path in root.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


# --- killed at any moment -----------------------------------------------------------------------------------------


class Killed(BaseException):
    """The end of a process, which no `except Exception` sees."""


STEPS = ("mkdir", "rename", "replace", "symlink", "fsync", "sync", "chmod", "fchmod", "unlink", "rmdir", "open")


def fail_at(step: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let the process end just before the n-th call that touches the disk; gives the calls made."""
    made: list[str] = []

    def counted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def instead(*arguments: Any, **named: Any) -> Any:
            if len(made) >= step:
                raise Killed
            made.append(name)
            return call(*arguments, **named)

        return instead

    for name in STEPS:
        monkeypatch.setattr(os, name, counted(name, getattr(os, name)))
    return made


# What was in force, what is done, and what is in force then; a repair finds the one in force damaged.
ENDS = {"first": (None, "0"), "next": ("1", "2"), "rollback": ("1", "0"), "repair": ("0", "0")}


def prepared(root: Path, kind: str, exports: list[Path], key: PublicKey) -> Callable[[], object]:
    """Install what was there before, and give what is to be done."""
    old, new = ENDS[kind]
    for export in exports[: 0 if old is None else int(old) + 1]:
        install(export, root, act=BY, key=key)
    if kind == "repair":
        (root / "current" / "policy.toml").write_text("bitten")
    if kind == "rollback":
        return lambda: rollback(root, act=BY, key=key)
    return lambda: install(exports[int(new)], root, act=BY, key=key)


def ended(act: Callable[[], object], step: int) -> list[str] | None:
    """Do it until a step; gives the steps made when it came to its end before."""
    with pytest.MonkeyPatch.context() as patch:
        made = fail_at(step, patch)
        try:
            act()
        except Killed:
            return None
    return made


@pytest.mark.parametrize("kind", ENDS)
def test_ended_at_any_step_the_old_or_the_new_one_is_whole(
    exports: list[Path], tmp_path: Path, key: PublicKey, kind: str
) -> None:
    """Before every single call; and then the same again succeeds, and nothing is left over."""
    old, new = ENDS[kind]
    seen: list[str | None] = []
    made: list[str] | None = None
    while made is None:
        root = tmp_path / f"{kind}{len(seen)}"
        act = prepared(root, kind, exports, key)
        made = ended(act, len(seen))
        held = now_holds(root, key) if kind != "repair" and os.path.lexists(root / "current") else None
        seen.append(held)
        if kind != "rollback" or held == old:
            act()
        assert (now_holds(root, key), left_over(root)) == (new, [])
        shutil.rmtree(root)
    assert len(made) == len(seen) - 1 > 10
    assert kind == "repair" or set(seen) == {old, new}
    assert kind == "repair" or seen == sorted(seen, key=lambda held: held == new)


def test_killed_for_real_the_old_one_holds(exports: list[Path], tmp_path: Path, key_file: Path, key: PublicKey) -> None:
    """SIGKILL while a process installs over and over: what is in force is always whole."""
    root = tmp_path / "root"
    install(exports[0], root, act=BY, key=key)
    script = (
        "import sys; from pathlib import Path; from datetime import datetime, UTC\n"
        "from enforcement.export.install import *; from enforcement.export.signing import read_public_key\n"
        "key, one, two, root = map(Path, sys.argv[1:]); key = read_public_key(key)\n"
        "act = Act(at=datetime(2026, 11, 24, tzinfo=UTC), by='x'); print('up', flush=True)\n"
        "while True:\n"
        "    install(two, root, act=act, key=key); rollback(root, act=act, key=key)\n"
    )
    command: list[str | Path] = [sys.executable, "-c", script, key_file.with_suffix(".pub"), *exports[:2], root]
    for milliseconds in (3, 17, 31, 55):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"up\n"
            try:
                process.wait(milliseconds / 1000)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        assert now_holds(root, key) in ("0", "1")
    if now_holds(root, key) == "1":
        rollback(root, act=BY, key=key)
    install(exports[1], root, act=BY, key=key)
    assert (now_holds(root, key), left_over(root)) == ("1", [])


def test_the_commands(tmp_path: Path) -> None:
    """Installed; then a damaged export is refused with exit code 1 and a line a reason."""
    export = write(tmp_path / "export", FILES, as_of=datetime.now(tz=UTC).date())
    done = run("install", export, "--to", tmp_path / "root", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert '"changed": true' in done.stdout
    (export / "policy.toml").write_bytes(b"")
    done = run("install", export, "--to", tmp_path / "root")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines() == [
        "enforcement: not installed: policy.toml: changed (0 bytes, expected 21)"
    ]
    assert run("rollback", "--to", tmp_path / "root").returncode == 1


def test_an_export_that_is_not_yet_valid_does_not_take_the_place_of_one_in_force(
    exports: list[Path], tmp_path: Path, key: PublicKey
) -> None:
    """It would accept everything until its first day; where nothing is installed yet it may wait."""
    early = Act(at=NOW - timedelta(days=1), by="a test")  # the day that the exports are of
    root = tmp_path / "root"
    install(exports[0], root, act=early, key=key)
    with pytest.raises(InstallError, match="decides nothing before"):
        install(exports[1], root, act=early, key=key)
    assert now_holds(root, key) == "0"
