"""What Postfix needs of an export: the tables that its milter asks, and the lines of its configuration."""

import json
from datetime import timedelta

from enforcement.export.tables import Tables


def lookup_json(tables: Tables) -> bytes:
    """Write the tables of an export in the form that a program asks; the same tables give the same bytes."""
    servers = {
        row["server"]: {
            "tenant": row["tenant"],
            "minute_offset": row["minute_offset"],
            "cohorts": {each["product"]: each["cohort"] for each in row["cohorts"]},
            "calendar": {},
        }
        for row in tables.servers.iter_rows(named=True)
    }
    for (server, cohort), rows in tables.calendar.group_by("server", "cohort", maintain_order=True):
        first = rows.row(0, named=True)
        still = rows.filter(~rows["running"]).select("from_on", "until_on").rows()
        # What stood still before the export is left out: the clock is as if it had run all the time.
        began = first["from_on"] - timedelta(days=first["clock_at_start"])
        servers[server]["calendar"][cohort] = {"spell_from_on": began, "still": still}
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
