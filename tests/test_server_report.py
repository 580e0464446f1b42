"""Exchange Online's own report: each server and build is a clock start, on which the clock of a policy runs."""

import json
from datetime import date
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from worlds import answer, refused, store_of

from enforcement import intake
from enforcement.importers.server_report import is_server_report, read_server_report
from enforcement.importers.sources import find_sources
from enforcement.store import open_store

TITLES = (
    "ServerFQDN", "Build", "ExchangeServer", "FirstDetectedDate", "RecommendedBuildVersions", "ThrottleEnabledDate",
    "BlockingEnabledDate", "NextStageThrottleRate", "NextStageBlockRate", "NextStageStartDate",
)  # fmt: skip
TODAY = date(2026, 11, 24)
RECOMMENDED = "15.1.2507.31,15.01.2507.031"


def record(
    detected: object, *, server: str = "Exch1.bear.local", build: str = "15.1.2507.16", next_on: object = ""
) -> dict[str, object]:
    values = (server, build, "ExchangeServer2016", detected, RECOMMENDED, "", "", "20", "0", next_on)
    return dict(zip(TITLES, values, strict=True))


def as_csv(rows: list[dict[str, object]], delimiter: str = ",") -> str:
    lines = [[f'"{name}"' for name in TITLES], *([f'"{value}"' for value in row.values()] for row in rows)]
    return "\r\n".join(delimiter.join(line) for line in lines) + "\r\n"


def starts(path: Path) -> tuple[list[tuple[object, ...]], list[str]]:
    (batch,) = read_server_report(path, TODAY)
    assert batch.started is not None
    assert batch.rows_read == batch.started.height + batch.rejects.height
    return batch.started.select("server", "build", "first_detected_on").rows(), batch.rejects["reason"].to_list()


FOUND = [("exch1.bear.local", "15.1.2507.16", date(2024, 4, 3))]


@pytest.mark.parametrize(
    "content",
    [
        as_csv([record("2024-04-03T00:15:08")]).encode(),
        as_csv([record("03/04/2024 00:15:08", next_on="13/05/2024 00:15:08")], ";").encode("utf-16"),
        (
            "#TYPE Deserialized.Report\r\n" + as_csv([record("4/3/2024 12:15:08 AM", next_on="4/13/2024 12:15:08 AM")])
        ).encode("utf-8-sig"),
        as_csv([record("03.04.2024 00:15:08")], "\t").encode(),
        json.dumps(record("2024-04-03T00:15:08Z")).encode(),
        json.dumps([record("2024-04-02T23:15:08-05:00")], indent=2).encode("utf-8-sig"),
        json.dumps([record("/Date(1712103308000)/")]).encode("utf-16"),
        json.dumps([record({"value": "/Date(1712103308000)/", "DateTime": "whatever"})]).encode(),
        json.dumps([{key.lower(): value for key, value in record("2024-04-03").items()}]).encode(),
    ],
)
def test_a_report_as_powershell_writes_it(tmp_path: Path, content: bytes) -> None:
    """CSV or JSON, with a mark or without, in any culture whose dates can be told: the day is known."""
    path = tmp_path / "report.csv"
    path.write_bytes(content)
    assert is_server_report(path)
    assert starts(path) == (FOUND, [])


def test_a_day_that_may_be_a_month_is_not_guessed(tmp_path: Path) -> None:
    """Nothing in the report tells, or it says both: the row is a reject that says so; equal numbers are certain.

    Whoever counts twelve hours may still have the day first, as in Australia and Singapore.
    """
    path = tmp_path / "report.csv"
    for other, hour in (("", ""), ("13/04/2024,04/13/2024", ""), ("", " 12:15:08 AM")):
        told = [record(f"03/04/2024{hour}"), record("04/04/2024", server="b.bear.local")]
        text = as_csv(told + [record(day, server="c.bear.local") for day in other.split(",") if day])
        path.write_text(text)
        found, reasons = starts(path)
        assert ("b.bear.local", "15.1.2507.16", date(2024, 4, 4)) in found
        assert f"'03/04/2024{hour}' may have day or month first" in reasons[0]


def test_bad_rows_cost_themselves(tmp_path: Path) -> None:
    rows = [
        record("2024-04-03"), record("2024-04-03", server=""), record("2024-04-03", build="16"), record(""),
        record("0000-00-00"), record("9999-12-31"), record("soon"), record("2024-04-03", server="a\u202eb"),
    ]  # fmt: skip
    path = tmp_path / "report.json"
    path.write_text(json.dumps([*rows, "text", None, 7, {}, record("/Date(99999999999999)/")]))
    found, reasons = starts(path)
    assert found == FOUND
    assert len(reasons) == 12
    assert sum("not a day" in reason for reason in reasons) == 4
    (tmp_path / "r.csv").write_text(as_csv(rows) + "short\r\n")
    found, reasons = starts(tmp_path / "r.csv")
    assert (found, len(reasons)) == (FOUND, 8)


def test_a_day_to_come_is_refused(tmp_path: Path) -> None:
    """Nothing was detected then: the row says so; a day that has come somewhere on earth is one."""
    path = tmp_path / "report.json"
    path.write_text(json.dumps([record(day) for day in ("2026-11-25", "2026-11-26", "2036-11-24")]))
    found, reasons = starts(path)
    assert found == [("exch1.bear.local", "15.1.2507.16", date(2026, 11, 25))]
    assert reasons == [
        f"first detected on {day}, which is to come (today is 2026-11-24)" for day in ("2026-11-26", "2036-11-24")
    ]


@pytest.mark.parametrize("text", ['[{"ServerFQDN": 1, "Build": 2, "FirstDetectedDate": 3}', "[" * 100_000])
def test_what_is_no_json_is_told_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"r\.json: not JSON: ") as raised:
        list(read_server_report(path, TODAY))
    assert "\n" not in str(raised.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*TITLES, "value", "x"]), inner, max_size=5)
    ),
    max_leaves=12,
)


@given(content=JSON)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_json_is_too_hostile(tmp_path: Path, content: object) -> None:
    """Anything that JSON can say is a clock start, a reject, or none at all."""
    path = tmp_path / "r.json"
    path.write_text(json.dumps([content, record("2024-04-03")]), encoding="utf-8")
    found, reasons = starts(path)
    assert found[-1:] == FOUND
    assert len(found) + len(reasons) == 2


def test_a_clock_start_starts_the_clock(tmp_path: Path) -> None:
    """A server whose clock Exchange Online started 40 days before its first mail stands at 40 with it."""
    store = store_of(tmp_path / "store", [("2024-05-13T10:30", "exch1.bear.local", "15.1.2507.16")])
    asked = ("explain", "ninety-days", "--server", "exch1.bear.local", "--at", "2024-05-13T10:30", "--store", store)
    assert answer(*asked)["clock"] == 0
    report = tmp_path / "report.csv"
    report.write_text(as_csv([record("2024-04-03")]))
    (done,) = answer("import", report, "--store", store)
    assert (done["rows_read"], done["rows_stored"], done["already_imported"]) == (1, 1, False)
    assert answer("import", report, "--store", store)[0]["already_imported"] is True
    assert answer(*asked)["clock"] == 40
    intake.forget(store, import_id=done["import_id"], before=None)
    assert answer(*asked)["clock"] == 0
    with open_store(store) as opened:
        assert opened.history().clock_starts.is_empty()


def test_a_table_of_mail_is_no_report(tmp_path: Path) -> None:
    """Nor does a report among tables pass for one."""
    (tmp_path / "mail.csv").write_text("sent_at,server,build\n2026-01-31T07:05:09Z,mail.contoso.com,15.1.2507.61\n")
    (tmp_path / "report.csv").write_text(as_csv([record("2024-04-03")]))
    kinds = {Path(source.name).name: source.options["kind"] for source in find_sources(tmp_path)}
    assert kinds == {"mail.csv": "table", "report.csv": "server report"}


@pytest.mark.parametrize(
    ("header", "lacking"),
    [
        ("ServerFQDN,FirstDetectedDate", "Build"),
        ("ServerFQDN,Build", "FirstDetectedDate"),
        ("Build,First Detected", "ServerFQDN"),
    ],
)
def test_a_report_that_lacks_a_column_is_told_so(tmp_path: Path, header: str, lacking: str) -> None:
    path = tmp_path / "report.csv"
    path.write_text(f"{header}\na,b\n")
    assert f"no column '{lacking}'" in refused("import", path, "--store", tmp_path / "s.duckdb")
