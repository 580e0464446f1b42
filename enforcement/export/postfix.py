"""What Postfix needs of an export: the tables that its milter asks, and the lines of its configuration."""

import json
from datetime import timedelta
from typing import Any, Final

from enforcement.export.tables import Tables
from enforcement.policy import OnFailure

LOOKUP_NAME: Final = "postfix/tables.json"
_ACTIONS: Final = {OnFailure.ACCEPT: "accept", OnFailure.DEFER: "tempfail"}
_MAIN = """\
# Lines for Postfix's main.cf. The milter answers with the codes and texts of the policy, at the end of the headers.
# Postfix looks for the socket below its queue directory, where a confined smtpd sees it too.
smtpd_milters = unix:enforcement/milter.sock
# What happens while the milter does not answer (on_failure = "{on_failure}").
milter_default_action = {action}
"""
_UNIT = """\
# A systemd service for the milter; EXPORTS is where `enforcement install` keeps the exports.
[Unit]
Description=Enforcement of a policy on out-of-date Exchange servers
After=network.target
Before=postfix.service

[Service]
Environment=EXPORTS=/etc/enforcement
ExecStart=/opt/enforcement/bin/enforcement milter ${{EXPORTS}}/current \\
  --socket unix:/var/spool/postfix/enforcement/milter.sock --on-failure {on_failure} \\
  --log /var/log/enforcement/decisions.jsonl
User=enforcement
Group=postfix
LogsDirectory=enforcement
Restart=always
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths=/var/spool/postfix/enforcement
PrivateTmp=yes

[Install]
WantedBy=multi-user.target
"""


def postfix_files(tables: Tables) -> dict[str, bytes]:
    """Write what the milter and Postfix read, name → content."""
    on_failure = tables.policy.export.on_failure
    return {
        LOOKUP_NAME: lookup_json(tables),
        "postfix/main.cf": _MAIN.format(on_failure=on_failure, action=_ACTIONS[on_failure]).encode(),
        "postfix/enforcement-milter.service": _UNIT.format(on_failure=on_failure).encode(),
    }


def lookup_json(tables: Tables) -> bytes:
    """Write the tables of an export in the form that a program asks; the same tables give the same bytes."""
    servers: dict[str, dict[str, Any]] = {
        row["server"]: {
            "tenant": row["tenant"],
            "minute_offset": row["minute_offset"],
            "cohorts": {each["product"]: each["cohort"] for each in row["cohorts"]},
            "calendar": {},
        }
        for row in tables.servers.iter_rows(named=True)
    }
    columns = ("server", "cohort", "from_on", "until_on", "running", "clock_at_start")
    for server, cohort, from_on, until_on, running, clock in tables.calendar.select(columns).iter_rows():
        # What stood still before the export is left out: the clock is as if it had run all the time.
        met = servers[server]["calendar"].setdefault(
            cohort, {"spell_from_on": from_on - timedelta(days=clock), "still": []}
        )
        if not running:
            met["still"].append((from_on, until_on))
    document = {
        "policy": tables.policy.model_dump(mode="json", by_alias=True),
        "serial": tables.serial,
        "valid_from": tables.valid_from,
        "not_after": tables.not_after,
        "servers": servers,
        "builds": {
            row["build"]: {key: value for key, value in row.items() if key != "build" and value is not None}
            for row in tables.builds.iter_rows(named=True)
        },
        "identities": dict(tables.identities),
    }
    text = json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return text.encode() + b"\n"
