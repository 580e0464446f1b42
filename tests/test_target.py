"""What every target means by the tables: who a peer is."""

import json
from datetime import date, datetime, timedelta

import pytest

from enforcement.export.target import Lookup, Peer, answer, read_lookup
from enforcement.export.vectors import line
from enforcement.shipped import load_policy

FINGERPRINT = "a" * 64
LOOKUP = Lookup(
    policy=load_policy("ninety-days"),
    serial=2026010100,
    valid_from=date(2026, 1, 2),
    not_after=date(2026, 1, 15),
    servers={},
    builds={},
    identities={
        "192.0.2.1": "exact.example",
        "192.0.2.0/24": "narrow.example",
        "192.0.0.0/16": "wide.example",
        "2001:db8::/32": "six.example",
        f"sha256:{FINGERPRINT}": "certified.example",
    },
)


@pytest.mark.parametrize(
    ("address", "certificate", "server"),
    [
        ("192.0.2.1", None, "exact.example"),
        ("::ffff:192.0.2.1", None, "exact.example"),  # as a dual-stack socket shows it
        ("192.0.2.7", None, "narrow.example"),
        ("192.0.77.7", None, "wide.example"),
        ("2001:DB8::7", None, "six.example"),
        ("192.0.2.1", FINGERPRINT, "certified.example"),
        (None, FINGERPRINT, "certified.example"),
        ("192.0.2.1", "b" * 64, "exact.example"),
        ("203.0.113.1", None, None),
        ("not an address", None, None),
        (None, None, None),
    ],
)
def test_who_a_peer_is(address: str | None, certificate: str | None, server: str | None) -> None:
    """Its certificate, else its address, else the narrowest network that holds it."""
    assert LOOKUP.identified(Peer(received=(), address=address, certificate=certificate)) == server


def test_before_its_clock_starts_a_server_is_a_new_detection() -> None:
    """As Exim and Rego have it, which find no span of such a day."""
    at = datetime(2026, 1, 5, 9, 30)
    peer = Peer([line("mx.t.example", "15.0.1497.48", at)])
    begins = {"spell_from_on": date(2026, 1, 6)}
    server = {"tenant": "t.example", "minute_offset": 0, "cohorts": {"Exchange Server 2013": "all"}}
    lookup = read_lookup(
        json.dumps(
            {
                "policy": load_policy("ninety-days").model_dump(mode="json", by_alias=True),
                "serial": 2026010100,
                "valid_from": "2026-01-02",
                "not_after": "2026-01-15",
                "servers": {"mx.t.example": server | {"calendar": {"all": begins}}},
                "builds": {
                    "15.0.1497.48": {
                        "evidence": "exact", "product": "Exchange Server 2013", "vulnerable_from": "2023-04-12"
                    }
                },
                "identities": {},
            },
            default=str,
        ).encode()
    )  # fmt: skip
    assert [answer(lookup, peer, at + timedelta(days=days)).reason for days in (0, 1)] == ["new detection", "enforced"]
