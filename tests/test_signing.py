"""Signed exports: any changed byte is refused, whatever file it is in, and nothing hostile is followed."""

import base64
import json
import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from worlds import refused, run

from enforcement.export.manifest import MANIFEST_NAME, Origin, canonical, manifest
from enforcement.export.signing import (
    ENVELOPE_NAME,
    PAYLOAD_TYPE,
    SigningKey,
    envelope,
    make_key,
    read_public_key,
    read_signing_key,
)
from enforcement.export.verify import NOBODY_VOUCHES, Checked, Holding, verify

AS_OF = date(2026, 11, 23)
TODAY = date(2026, 11, 24)
FILES = {
    "policy.toml": b'name = "ninety-days"\n',
    "exim/builds.cdb": bytes(range(256)) * 4,
    "rego/.manifest": b"{}\n",
    "notices/tenants/contoso.md": "Grüße\n".encode(),
    "empty.csv": b"",
}


def write(
    folder: Path, files: dict[str, bytes], *, key: SigningKey | None = None, revision: int = 0, as_of: date = AS_OF
) -> Path:
    """Write an export with these files, as `export` does."""
    origin = Origin(
        policy="ninety-days", as_of=as_of, not_after=as_of + timedelta(days=14), revision=revision, guardrails=[],
        override=None, run=None, inputs={"traffic": "0" * 64},
    )  # fmt: skip
    listed = manifest(files, origin)
    sealed = {ENVELOPE_NAME: envelope(listed, key)} if key else {}
    for name, content in {**files, MANIFEST_NAME: listed, **sealed}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "theirs"):
        make_key(folder / name)
    return folder


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Path:
    return write(tmp_path_factory.mktemp("signed"), FILES, key=read_signing_key(keys / "ours"))


@pytest.fixture(scope="module")
def unsigned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("unsigned"), FILES)


@pytest.fixture
def export(tmp_path: Path, signed: Path) -> Path:
    return shutil.copytree(signed, tmp_path / "export")


def checked(folder: Path, keys: Path | None = None, *, name: str = "ours", **more: Any) -> Checked:
    return verify(folder, today=TODAY, key=read_public_key(keys / f"{name}.pub") if keys else None, **more)


def test_a_signed_export_is_fit_and_says_who_vouches(signed: Path, keys: Path) -> None:
    found = checked(signed, keys)
    assert (found.ok, found.reasons, found.notes) == (True, (), ())
    assert found.signed_by == read_public_key(keys / "ours.pub").keyid
    without = checked(signed)
    assert (without.ok, without.notes, without.signed_by) == (True, (NOBODY_VOUCHES,), None)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_changed_byte_of_a_signed_export_is_refused(signed: Path, keys: Path, data: st.DataObject) -> None:
    """Whatever the file, manifest and envelope included, and whatever is done to one byte of it."""
    _break_one_byte(signed, data, keys=keys)


def _break_one_byte(folder: Path, data: st.DataObject, *, but: str = "", keys: Path | None = None) -> None:
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    path = folder / data.draw(st.sampled_from([name for name in names if name != but]))
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole)))
    byte = data.draw(st.integers(0, 255))
    how = data.draw(st.sampled_from(["change", "insert", "delete"]))
    broken = whole[:at] + (b"" if how == "delete" else bytes([byte])) + whole[at + (how != "insert") :]
    if broken == whole:
        return
    try:
        path.write_bytes(broken)
        assert not checked(folder, keys).ok, (path.name, at, how, byte)
    finally:
        path.write_bytes(whole)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_changed_byte_of_an_unsigned_export_is_refused_but_in_its_manifest(
    unsigned: Path, data: st.DataObject
) -> None:
    _break_one_byte(unsigned, data, but=MANIFEST_NAME)


def test_bytes_of_the_manifest_and_the_envelope_count(export: Path, keys: Path) -> None:
    """Every third, one after the other: letter case, a space, a bit that base64 leaves open."""
    for name in (MANIFEST_NAME, ENVELOPE_NAME):
        whole = (export / name).read_bytes()
        for at in range(0, len(whole), 3):
            (export / name).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            assert not checked(export, keys).ok, (name, at)
        (export / name).write_bytes(whole)
    assert checked(export, keys).ok


def _rewritten(write: Callable[[Any], str]) -> Callable[[bytes], bytes]:
    return lambda content: write(json.loads(content)).encode()


OTHER_SPELLINGS: dict[str, Callable[[bytes], bytes]] = {
    "compact": _rewritten(json.dumps),
    "other order": _rewritten(lambda read: json.dumps(dict(reversed(read.items())), indent=2) + "\n"),
    "no line end": bytes.rstrip,
    "CRLF": lambda content: content.replace(b"\n", b"\r\n"),
    "byte order mark": lambda content: b"\xef\xbb\xbf" + content,
    "escaped letter": lambda content: content.replace(b"a", b"\\u0061", 1),
    "key twice": lambda content: content.replace(b"{\n", b'{\n  "policy": "other",\n', 1),
}


@pytest.mark.parametrize("name", [MANIFEST_NAME, ENVELOPE_NAME])
@pytest.mark.parametrize("spelling", OTHER_SPELLINGS)
def test_the_same_in_another_spelling_is_refused(export: Path, keys: Path, name: str, spelling: str) -> None:
    """Also when the manifest in that spelling is what was signed: it has one form."""
    whole = (export / name).read_bytes()
    other = OTHER_SPELLINGS[spelling](whole)
    assert other != whole
    (export / name).write_bytes(other)
    if name == MANIFEST_NAME:
        (export / ENVELOPE_NAME).write_bytes(envelope(other, read_signing_key(keys / "ours")))
    found = checked(export, keys)
    assert not found.ok
    assert found.reasons[0].startswith(f"{name}: ")


def test_a_signature_under_another_name_or_of_another_key_is_refused(export: Path, keys: Path) -> None:
    """A key signs; the envelope then claims another key's name, or another kind of payload."""
    assert "not signed with this key" in checked(export, keys, name="theirs").reasons[0]
    read = json.loads((export / ENVELOPE_NAME).read_bytes())
    ours, theirs = (read_public_key(keys / f"{name}.pub").keyid for name in ("ours", "theirs"))
    read["signatures"][0]["keyid"] = theirs
    (export / ENVELOPE_NAME).write_bytes(canonical(read))
    assert "not signed with this key" in checked(export, keys, name="theirs").reasons[0]
    assert "not signed with this key" in checked(export, keys).reasons[0]
    read["signatures"][0]["keyid"] = ours
    (export / ENVELOPE_NAME).write_bytes(canonical(read | {"payloadType": "application/vnd.in-toto+json"}))
    assert checked(export, keys).reasons == (f"{ENVELOPE_NAME}: expected the payload type {PAYLOAD_TYPE}",)


def test_an_envelope_of_another_manifest_is_refused(export: Path, keys: Path) -> None:
    """An old envelope, well signed, beside a newer manifest; also without a key."""
    other = json.loads((export / MANIFEST_NAME).read_bytes()) | {"serial": 2026112301}
    (export / ENVELOPE_NAME).write_bytes(envelope(canonical(other), read_signing_key(keys / "ours")))
    for each in (keys, None):
        assert checked(export, each).reasons == (f"{ENVELOPE_NAME}: signs another manifest than {MANIFEST_NAME}",)


def test_an_unsigned_export_is_refused_where_a_key_is_asked(unsigned: Path, keys: Path) -> None:
    assert "missing; the export is not signed" in checked(unsigned, keys).reasons[0]


def test_dates_and_serials(signed: Path, keys: Path) -> None:
    """Its last day is as_of + 14; older than installed is refused, and one serial never has two contents."""
    key = read_public_key(keys / "ours.pub")
    assert verify(signed, today=date(2026, 12, 7), key=key).ok
    assert "expired" in verify(signed, today=date(2026, 12, 8), key=key).reasons[0]
    assert not verify(signed, today=date(2026, 11, 24), key=key).notes
    early = verify(signed, today=date(2026, 11, 23), key=key)
    assert (early.ok, early.notes) == (True, ("it decides nothing before 2026-11-24: until then all mail is accepted",))
    content = (signed / MANIFEST_NAME).read_bytes()
    assert checked(signed, keys, holding=Holding(2026112300, content)).ok
    assert checked(signed, keys, holding=Holding(2026112299, None)).ok
    assert "older than what is installed" in checked(signed, keys, holding=Holding(2026112301, None)).reasons[0]
    assert "other content" in checked(signed, keys, holding=Holding(2026112300, b"{}")).reasons[0]


def test_what_is_missing_or_extra_is_named(export: Path, keys: Path) -> None:
    (export / "policy.toml").unlink()
    (export / "exim" / "more.cdb").write_bytes(b"")
    (export / "aside").mkdir()
    assert set(checked(export, keys).reasons) == {
        "policy.toml: missing", "exim/more.cdb: not in the manifest", "aside: not in the manifest"
    }  # fmt: skip
    (export / MANIFEST_NAME).unlink()
    assert checked(export, keys).reasons == ("manifest.json: missing",)


def test_links_pipes_and_sockets_are_refused_unread(export: Path, keys: Path, tmp_path: Path) -> None:
    """A link to the very same bytes is refused too; a pipe that nobody writes to does not hang."""
    outside = tmp_path / "outside"
    shutil.copytree(export, outside)
    for name in ("policy.toml", MANIFEST_NAME, ENVELOPE_NAME, "exim", "notices/tenants"):
        kept = tmp_path / "kept"
        (export / name).rename(kept)
        (export / name).symlink_to(outside / name)
        assert not checked(export, keys).ok, name
        (export / name).unlink()
        kept.rename(export / name)
    assert checked(export, keys).ok
    for name in ("policy.toml", MANIFEST_NAME):
        (export / name).unlink()
        os.mkfifo(export / name)
        assert checked(export, keys).reasons[0] == f"{name}: not a plain file"
        shutil.copy(outside / name, tmp_path / "again")
        (tmp_path / "again").replace(export / name)
    for name in (MANIFEST_NAME, ENVELOPE_NAME):
        (export / name).rename(tmp_path / "kept")
        (export / name).mkdir()
        assert checked(export, keys).reasons == (f"{name}: not a plain file",)
        (export / name).rmdir()
        (tmp_path / "kept").rename(export / name)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(export / "s"))
        assert checked(export, keys).reasons == ("s: not in the manifest",)
    (export / "s").unlink()
    (export / "exim" / "loop").symlink_to("..")
    assert checked(export, keys).reasons == ("exim/loop: not in the manifest",)


@pytest.mark.parametrize(
    "name",
    ["../k", "/etc/passwd", "a/../b", "a//b", "./a", "a/", "", "a\\b", "a\nb", MANIFEST_NAME, ENVELOPE_NAME, ".."],
)
def test_names_that_lead_out_are_refused(tmp_path: Path, keys: Path, name: str) -> None:
    """Even signed: nobody who signs such a list means well."""
    write(tmp_path, {"a.csv": b"x"})
    read = json.loads((tmp_path / MANIFEST_NAME).read_bytes())
    read["files"][name] = read["files"]["a.csv"]
    listed = canonical(read)
    (tmp_path / MANIFEST_NAME).write_bytes(listed)
    (tmp_path / ENVELOPE_NAME).write_bytes(envelope(listed, read_signing_key(keys / "ours")))
    assert "expected a relative path inside the export" in checked(tmp_path, keys).reasons[0]


HOSTILE = {
    "not UTF-8": b'{"format": "\xff"}',
    "deep": b"[" * 200_000,
    "long number": b'{"serial": ' + b"9" * 10_000 + b"}",
    "NaN": b'{"format": NaN}',
    "lone surrogate": b'{\n  "format": "\\ud800"\n}\n',
    "empty": b"",
    "list": b"[]\n",
    "text": b'"format"\n',
}


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.parametrize("name", [MANIFEST_NAME, ENVELOPE_NAME])
def test_hostile_documents_are_refused_in_one_line(export: Path, keys: Path, what: str, name: str) -> None:
    (export / name).write_bytes(HOSTILE[what])
    for each in (keys, None):
        found = checked(export, each)
        assert not found.ok
        assert len(found.reasons) == 1
        assert found.reasons[0].isprintable()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=6,
    ),
    st.sampled_from(["format", "policy", "serial", "valid_from", "not_after", "files"]),
)
def test_wrong_values_in_a_manifest_never_make_a_traceback(unsigned: Path, value: object, key: str) -> None:
    path = unsigned / MANIFEST_NAME
    whole = path.read_bytes()
    try:
        path.write_bytes(canonical(json.loads(whole) | {key: value}))
        checked(unsigned)
    except UnicodeEncodeError:  # of this test: no JSON in UTF-8 has a lone surrogate
        pass
    finally:
        path.write_bytes(whole)


def test_a_huge_file_is_refused_unread(export: Path, keys: Path) -> None:
    """Of a terabyte: in place of a listed file, and in place of the manifest."""
    for name in ("policy.toml", MANIFEST_NAME):
        os.truncate(export / name, 2**40)
        assert f"{2**40:,} bytes" in checked(export, keys).reasons[0]
        (export / name).unlink()


def test_many_reasons_are_cut_and_counted(export: Path, keys: Path) -> None:
    for number in range(60):
        (export / f"extra{number}").touch()
    reasons = checked(export, keys).reasons
    assert (len(reasons), reasons[-1]) == (21, "shown 20 of 60 reasons")


def test_signing_again_gives_the_same_bytes(signed: Path, keys: Path) -> None:
    listed = (signed / MANIFEST_NAME).read_bytes()
    assert envelope(listed, read_signing_key(keys / "ours")) == (signed / ENVELOPE_NAME).read_bytes()


def test_others_can_check_the_signature(signed: Path, keys: Path, tmp_path: Path) -> None:
    """By openssl alone, over DSSE's pre-authentication encoding."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl here")
    read = json.loads((signed / ENVELOPE_NAME).read_bytes())
    payload = base64.b64decode(read["payload"])
    kind = PAYLOAD_TYPE.encode()
    (tmp_path / "pae").write_bytes(b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload))
    (tmp_path / "sig").write_bytes(base64.b64decode(read["signatures"][0]["sig"]))
    command: list[str | Path] = [
        "openssl",
        "pkeyutl",
        "-verify",
        "-pubin",
        "-inkey",
        keys / "ours.pub",
        "-rawin",
        "-in",
        tmp_path / "pae",
    ]
    done = subprocess.run([*command, "-sigfile", tmp_path / "sig"], capture_output=True, text=True, check=False)
    assert "Verified Successfully" in done.stdout, done.stderr


# --- keys, and the commands ---------------------------------------------------------------------------------------


def test_a_key_is_private_and_never_written_over(keys: Path, tmp_path: Path) -> None:
    assert stat.S_IMODE((keys / "ours").stat().st_mode) == 0o600
    whole = (keys / "ours").read_bytes()
    for name in ("ours", "ours.pub"):
        with pytest.raises(ValueError, match="is there"):
            make_key((keys / name) if name == "ours" else keys / "ours")
    (tmp_path / "k.pub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"k\.pub is there"):
        make_key(tmp_path / "k")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["k.pub"]
    assert (keys / "ours").read_bytes() == whole


def test_wrong_key_files_are_told_in_words_that_repeat_nothing(keys: Path, tmp_path: Path) -> None:
    secret = (keys / "ours").read_text()
    loose = tmp_path / "loose"
    loose.write_text(secret)
    loose.chmod(0o640)
    broken = tmp_path / "broken"
    broken.write_text(secret.replace("MC4", "MC5"))
    broken.chmod(0o600)
    (tmp_path / "huge").touch(mode=0o600)
    os.truncate(tmp_path / "huge", 2**30)
    rsa = tmp_path / "rsa"
    rsa.write_text("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    both, private = tmp_path / "both", tmp_path / "private"
    both.write_text((keys / "ours.pub").read_text() * 2)
    private.write_text(secret * 2)
    private.chmod(0o600)
    cases: list[tuple[Callable[[Path], object], Path, str]] = [
        (read_signing_key, loose, "others can read this key"),
        (read_signing_key, broken, "no ed25519 private key"),
        (read_signing_key, keys / "ours.pub", "this is a public key"),
        (read_signing_key, tmp_path / "huge", "larger than"),
        (read_public_key, keys / "ours", "this is a private key"),
        (read_public_key, rsa, "no ed25519 public key"),
        (read_public_key, both, "holds 2 keys"),
        (read_signing_key, private, "holds 2 keys"),
    ]
    for read, path, told in cases:
        with pytest.raises(ValueError, match=told) as problem:
            read(path)
        assert secret.splitlines()[1] not in str(problem.value)


def test_the_commands(export: Path, unsigned: Path, keys: Path, tmp_path: Path) -> None:
    """keygen makes keys and shows no secret; verify answers as scripts rely on, and says what it does not vouch for."""
    told = json.loads(run("verify", unsigned, "--format", "json").stdout)["reasons"]
    assert told[-1] == "no key was given: the files were held to the manifest, but nothing vouches for the manifest"
    made = run("keygen", "--out", tmp_path / "k")
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "k").read_text().splitlines()[1] not in made.stdout + made.stderr
    (export / "policy.toml").write_bytes(b"")
    done = run("verify", export, "--key", keys / "ours.pub", "--format", "json")
    assert done.returncode == 1
    answer = json.loads(done.stdout)
    assert (set(answer), answer["ok"]) == ({"ok", "reasons"}, False)
    assert any(reason.startswith("policy.toml: changed") for reason in answer["reasons"])
    assert "private key" in refused("verify", export, "--key", keys / "ours")


def test_a_folder_is_no_key() -> None:
    with pytest.raises(ValueError, match=r"^\. is a folder \(expected the name of a new file in it\)"):
        make_key(Path())
