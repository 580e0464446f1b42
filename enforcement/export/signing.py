"""Keys and signatures: a DSSE envelope that vouches for a manifest, ed25519."""

import base64
import binascii
import json
import os
import stat
from pathlib import Path
from typing import Any, Final, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import (  # type: ignore[attr-defined]  # its names are not said to be exported
    CryptoSigner,
    Signature,
    SSlibKey,
)

from enforcement.export.manifest import canonical
from enforcement.names import printable

ENVELOPE_NAME: Final = "manifest.dsse.json"
# What the payload is, so that a signature for something else never counts: DSSE's protocol.md, "payloadType".
PAYLOAD_TYPE: Final = "application/vnd.enforcement.manifest+json"
_LARGEST_KEY: Final = 10_000  # bytes; an ed25519 key in PEM has 119
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO

SigningKey: TypeAlias = CryptoSigner
PublicKey: TypeAlias = SSlibKey


def make_key(path: Path) -> PublicKey:
    """Make a key pair: the private half in a new file that only its owner can read, the public one in `<path>.pub`.

    A file that is there is never written over; an error leaves none of the two behind.
    """
    if not path.name:
        raise ValueError(f"{printable(str(path))} is a folder (expected the name of a new file in it)")
    public_path = public_path_of(path)
    for each in (path, public_path):
        if os.path.lexists(each):
            raise ValueError(f"{printable(str(each))} is there (expected the name of a new file; keys are kept)")
    signer = CryptoSigner.generate_ed25519()
    public = signer.public_key._crypto_key()  # noqa: SLF001 - the library has no public way to its PEM
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    _write_new(path, signer.private_bytes, mode=0o600)
    try:
        _write_new(public_path, pem, mode=0o644)
    except BaseException:
        path.unlink()
        raise
    return signer.public_key


def public_path_of(path: Path) -> Path:
    """Name the file of the public half of a key.

    >>> str(public_path_of(Path("keys/policy.key")))
    'keys/policy.key.pub'
    """
    return path.with_name(f"{path.name}.pub")


def _write_new(path: Path, content: bytes, *, mode: int) -> None:
    # O_EXCL: neither a file nor a link that somebody puts there meanwhile is followed.
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def read_signing_key(path: Path) -> SigningKey:
    """Read a private key that `keygen` wrote; one that others can read is refused, as ssh does."""
    content, mode = _key_file(path)
    if b"PUBLIC KEY" in content:
        raise ValueError(f"{printable(str(path))}: this is a public key (expected the private one, without .pub)")
    if mode & _OTHERS:
        raise ValueError(f"{printable(str(path))}: others can read this key (expected: chmod 600 {path.name})")
    try:
        key = serialization.load_pem_private_key(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None  # what the library says of it might repeat parts of it
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{printable(str(path))}: no ed25519 private key in PEM (expected a file of `keygen`)")
    return CryptoSigner(key)


def read_public_key(path: Path) -> PublicKey:
    """Read a public key that `keygen` wrote."""
    content, _ = _key_file(path)
    if b"PRIVATE KEY" in content:
        raise ValueError(f"{printable(str(path))}: this is a private key (expected the public one, {path.name}.pub)")
    try:
        key = serialization.load_pem_public_key(content)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError(f"{printable(str(path))}: no ed25519 public key in PEM (expected a .pub file of `keygen`)")
    return SSlibKey.from_crypto(key)


def _key_file(path: Path) -> tuple[bytes, int]:
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"{printable(str(path))}: not a file (expected a key of `keygen`)")
        content = file.read(_LARGEST_KEY + 1)
    if len(content) > _LARGEST_KEY:
        raise ValueError(f"{printable(str(path))}: larger than {_LARGEST_KEY:,} bytes (expected a key of `keygen`)")
    if (n_keys := content.count(b"-----BEGIN ")) > 1:
        raise ValueError(f"{printable(str(path))}: holds {n_keys} keys (expected one; only the first would count)")
    return content, found.st_mode


def envelope(manifest: bytes, key: SigningKey) -> bytes:
    """Sign a manifest: the envelope, in its one form; the same manifest and key give the same bytes."""
    made = Envelope(manifest, PAYLOAD_TYPE, {})
    made.sign(key)
    return canonical(made.to_dict())


def open_envelope(content: bytes) -> Envelope:
    r"""Read an envelope in its one form, or say in a ValueError what is wrong with it.

    >>> open_envelope(b"{}")
    Traceback (most recent call last):
    ValueError: expected payload, payloadType and signatures
    """
    read = strict_json(content)
    if not isinstance(read, dict) or set(read) != {"payload", "payloadType", "signatures"}:
        raise ValueError("expected payload, payloadType and signatures")
    signatures = read["signatures"]
    if not isinstance(signatures, list) or len(signatures) != 1 or not _is_signature(signatures[0]):
        raise ValueError("expected one signature with keyid and sig")
    if read["payloadType"] != PAYLOAD_TYPE:
        raise ValueError(f"expected the payload type {PAYLOAD_TYPE}")
    keyid, sig = signatures[0]["keyid"], _from_base64(signatures[0]["sig"])
    found = Envelope(_from_base64(read["payload"]), PAYLOAD_TYPE, {keyid: Signature(keyid, sig.hex())})
    # Also what base64 and JSON leave open has one spelling: every byte counts.
    if canonical(found.to_dict()) != content:
        raise ValueError("not in its canonical form (expected the file as `export` wrote it)")
    return found


def _is_signature(value: object) -> bool:
    return (
        isinstance(value, dict) and set(value) == {"keyid", "sig"} and all(isinstance(x, str) for x in value.values())
    )


def _from_base64(text: object) -> bytes:
    try:
        return base64.b64decode(str(text).encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise ValueError("expected base64") from None


def is_signed_by(found: Envelope, key: PublicKey) -> bool:
    """Tell whether a key vouches for what an envelope holds."""
    try:
        found.verify([key], 1)
    except VerificationError:
        return False
    return True


def signer_of(found: Envelope) -> str:
    """Name the key that an envelope says it was signed with, as it says."""
    return next(iter(found.signatures))


def strict_json(content: bytes) -> Any:  # noqa: ANN401 - any JSON document
    r"""Read JSON that says one thing only: UTF-8, no key twice, no NaN; anything else is a ValueError in one line.

    >>> strict_json(b'{"a": 1, "a": 2}')
    Traceback (most recent call last):
    ValueError: the key 'a' stands twice
    >>> strict_json(b"[" * 100_000)
    Traceback (most recent call last):
    ValueError: nested too deeply
    """
    try:
        return json.loads(content.decode(), object_pairs_hook=_once, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 text: {error.reason} at byte {error.start:,}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} in line {error.lineno:,}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]  # add gives None
        raise ValueError(f"the key {twice[:80]!r} stands twice")
    return found


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no number of JSON")
