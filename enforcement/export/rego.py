"""What a policy engine needs of an export: a bundle of one Rego policy and its data, every text ready-made."""

import gzip
import io
import ipaddress
import json
import tarfile
from collections import defaultdict
from typing import Any, Final

import polars as pl

from enforcement.builds import Evidence
from enforcement.export.tables import Tables
from enforcement.policy import Window
from enforcement.verdict import Verdict, reply

_NEVER: Final = "9999-12-31"  # a day that does not come


def rego_files(tables: Tables) -> dict[str, bytes]:
    """Write the files of an export for Rego, name → content, and the same as a bundle; same tables, same bytes."""
    inside = {
        ".manifest": _json({"revision": str(tables.serial), "roots": ["enforcement", "enforcement_tables"]}),
        "data.json": _json({"enforcement_tables": _data(tables)}),
        "enforcement/policy.rego": REGO.encode(),
    }
    return {f"rego/{name}": content for name, content in inside.items()} | {"rego/bundle.tar.gz": _bundle(inside)}


def address_bits(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """Write an address in bits, behind its version.

    >>> address_bits(ipaddress.ip_address("192.0.2.1"))
    '4:11000000000000000000001000000001'
    """
    return f"{address.version}:{int(address):0{address.max_prefixlen}b}"


def _json(content: object) -> bytes:
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return text.encode() + b"\n"


def _bundle(files: dict[str, bytes]) -> bytes:
    """Pack a bundle without a time or an owner in it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    return gzip.compress(packed.getvalue(), mtime=0)


def _data(tables: Tables) -> dict[str, Any]:
    networks = [ipaddress.ip_network(key) for key in tables.identities if "/" in key]
    return {
        "serial": tables.serial,
        "valid_from": tables.valid_from,
        "not_after": tables.not_after,
        "stages": [
            {
                "block": held.block,
                "throttle": held.throttle,
                "reject": _reply(Verdict.REJECT, tables, held.block, held.throttle),
                "defer": _reply(Verdict.DEFER, tables, held.block, held.throttle),
            }
            for held in tables.policy.stage_minutes
        ],
        "cohorts": {cohort.name: cohort.starts_on for cohort in tables.policy.cohorts},
        "builds": {
            build: {"product": product or "", "vulnerable_from": since or _NEVER}
            for build, product, evidence, since in tables.builds.select(
                "build", "product", "evidence", "vulnerable_from"
            ).iter_rows()
            if evidence not in (Evidence.UNKNOWN, Evidence.CLOUD)
        },
        "identities": {key: server for key, server in tables.identities.items() if "/" not in key},
        "networks": [
            {
                "network": str(network),
                "bits": address_bits(network.network_address)[: 2 + network.prefixlen],
                "server": tables.identities[str(network)],
            }
            for network in sorted(networks, key=lambda each: (-each.prefixlen, str(each)))
        ],
        "servers": _servers(tables),
    }


def _reply(verdict: Verdict, tables: Tables, block: int, throttle: int) -> dict[str, Any] | None:
    said = reply(verdict, block=block, throttle=throttle, service=tables.policy.export.service_name)
    return None if said is None else said._asdict()


def _servers(tables: Tables) -> dict[str, dict[str, Any]]:
    """Give each server its cohorts by product, its offset, and its stages while the export is valid, by cohort."""
    spread = tables.policy.window is Window.SPREAD
    spans: defaultdict[str, defaultdict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    coming = tables.calendar.filter(
        (pl.col("from_on") <= tables.not_after)
        & (pl.col("until_on").is_null() | (pl.col("until_on") > tables.valid_from))
    )
    columns = ("server", "cohort", "from_on", "until_on", "stage", "running")
    for server, cohort, start, end, stage, running in coming.select(columns).iter_rows():
        spans[server][cohort].append({"from": start, "until": end or _NEVER, "stage": stage, "running": running})
    return {
        server: {
            "offset": offset if spread else 0,
            "cohorts": {each["product"]: each["cohort"] for each in cohorts},
            "calendar": spans[server],
        }
        for server, offset, cohorts in tables.servers.select("server", "minute_offset", "cohorts").iter_rows()
    }


REGO: Final = """# Written by `enforcement export`; the same for every policy. What changes is in data.json.
#
# Ask for data.enforcement.decision with this input:
#   day          the UTC day, "2026-12-01"
#   minute       the minute of the UTC hour, 0 to 59 (a number: engines differ in how they reckon with large times)
#   hand_over    "direct" when the topmost Received line is the smtp hop of an on-premises Exchange server,
#                "not direct" when a line further down is one, "no exchange server" when none is
#   server       the name behind `by` in that line, lower case, no dot at the end
#   build        the build in that line, without zeros in front, "15.1.2507.6"
#   address      the peer's IP address, "" when not known
#   address_bits the same in bits behind its version, "4:11000000000000000000001000000001" (not all engines have a
#                function for networks)
#   certificate  the SHA-256 of its client certificate, 64 hexadecimal digits in lower case, "" when there is none
package enforcement

import rego.v1

tables := data.enforcement_tables

by_network := [each.server |
	some each in tables.networks
	startswith(input.address_bits, each.bits)
]

by_certificate := tables.identities[concat("", ["sha256:", input.certificate])]

by_address := tables.identities[input.address]

# Who it is: by its certificate, its address, its network (the longest prefix comes first), else as it calls itself.
server := by_certificate if {
	by_certificate
} else := by_address if {
	by_address
} else := by_network[0] if {
	by_network[0]
} else := input.server

build := tables.builds[input.build]

known := tables.servers[server]

cohort := name if {
	name := known.cohorts[build.product]
	tables.cohorts[name] <= input.day
}

span := found if {
	some found in known.calendar[cohort]
	found.from <= input.day
	input.day < found.until
}

reason := "expired" if {
	input.day > tables.not_after
} else := "not yet valid" if {
	input.day < tables.valid_from
} else := "not direct" if {
	input.hand_over == "not direct"
} else := "no exchange server" if {
	input.hand_over != "direct"
} else := "unknown build" if {
	not build
} else := "not vulnerable" if {
	input.day < build.vulnerable_from
} else := "new detection" if {
	not known
} else := "no cohort" if {
	not cohort
} else := "new detection" if {
	not span
} else := "standing still" if {
	not span.running
} else := "enforced"

stage := tables.stages[span.stage - 1]

k := ((input.minute - known.offset) + 60) % 60

# First the blocked minutes of the window, then the throttled ones.
reply := stage.reject if {
	reason == "enforced"
	k < stage.block
} else := stage.defer if {
	reason == "enforced"
	k < stage.block + stage.throttle
}

answer := reply if {
	reply
} else := {}

verdicts := {450: "defer", 550: "reject"}

verdict := verdicts[reply.code] if {
	reply
} else := "accept"

where := {"stage": span.stage, "cohort": cohort} if {
	reason in {"enforced", "standing still"}
} else := {}

decision := object.union(object.union(answer, where), {"verdict": verdict, "reason": reason, "serial": tables.serial})
"""
