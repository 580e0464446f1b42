"""Reports: a run is its inputs, fails everywhere when it fails, and nothing typed into it becomes markup."""

import base64
import hashlib
import json
import os
import re
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest
from pages import HOSTILE, PYTHON, TEMPLATED, hostile_policy, made, own_policy, small_store
from worlds import store_of

from enforcement import report
from enforcement.report import ParameterError, RunResult, check_parameters, parse_parameters
from enforcement.report_index import write_index
from enforcement.report_parameters import AskedExport
from enforcement.report_runs import State, all_records, held, plan, read_record, started, write_whole
from enforcement.spreadsheet import safe_csv

FAILING = '\n[[guardrails]]\nmeasure = "lost_share_of_mail"\nper = "total"\nat_most = 0.0\nmin_messages = 1\n'


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_store(tmp_path_factory.mktemp("report") / "traffic.duckdb")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def replayed(store: Path, out: Path) -> RunResult:
    """A page of two policies."""
    return made("03_replay", {"policies": ["ninety-days", "gentler"]}, store=store, out=out)


@pytest.fixture(scope="module")
def attacked(store: Path, out: Path) -> list[Path]:
    """Pages of a policy and of traffic that are full of attacks, and the index that lists them."""
    policy = str(hostile_policy(out))
    pages = [
        made("02_policy", {"policy": policy}, store=store, out=out).page,
        made("03_replay", {"policies": [policy]}, store=store, out=out).page,
        made("00_explore", {}, store=store, out=out).page,
    ]
    return [*pages, out / "index.html"]


class Page(HTMLParser):
    """What a page is made of: its elements, their attributes, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self._inside = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag if tag in ("script", "style", "title") else ""

    def handle_endtag(self, _: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts.append(data)
        elif not self._inside:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def test_a_run_leaves_a_page_a_record_and_a_line_in_the_index(replayed: RunResult, out: Path) -> None:
    """The record says what the page rests on, what it cost, and that it is done."""
    record = json.loads((replayed.page.parent / "run.json").read_text(encoding="utf-8"))
    assert (record["state"], record["name"], record["run"]) == ("done", "03_replay", replayed.run)
    assert record["policies"] == ["ninety-days", "gentler"]
    assert record["parameters"]["policies"] == ["ninety-days", "gentler"]
    assert record["seconds"] > 0
    assert record["peak_memory_bytes"] > 50e6
    inputs = record["inputs"]
    assert set(inputs["versions"]) >= {"enforcement", "python", "polars", "altair"}
    for sha256 in (inputs["notebook"], inputs["code"], inputs["traffic"], *inputs["files"].values()):
        assert re.fullmatch("[0-9a-f]{64}", sha256)
    text = Path("data/policies/gentler.toml").read_bytes()
    assert inputs["files"]["policy gentler"] == hashlib.sha256(text).hexdigest()
    assert set(inputs["catalogue"]) == {path.name for path in Path("data/catalogue").iterdir()}
    assert [source["rows_rejected"] for source in record["imports"]] == [0, 1]
    index = Page(out / "index.html")
    assert f"03_replay/{replayed.run}/page.html" in {element.get("href") for _, element in index.elements}
    assert "ninety-days, gentler" in index.text


def test_the_page_answers_first(replayed: RunResult) -> None:
    """Title, the answer from the data, five figures, then pictures; assumptions, data and record at the end."""
    page = Page(replayed.page)
    text = page.text
    places = [text.index(words) for words in (
        "What would these policies have done?", "would have delayed", "risk left",
        "What happens to a vulnerable server", "What becomes of the mail", "Who is hit", "What risk is left",
        "Guardrails", "What is assumed", "Guess:", "Data", "How this page was made",
    )]  # fmt: skip
    assert places == sorted(places)
    assert sum(element.get("class") == "figure" for _, element in page.elements) == 5
    assert sum(element.get("class") == "chart" for _, element in page.elements) == 6


def test_figures_are_the_replay(replayed: RunResult, store: Path) -> None:
    """What the page says is what the command computes."""
    done = subprocess.run(
        [PYTHON, "-m", "enforcement", "replay", "ninety-days", "--store", str(store), "--format", "json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    (answer,) = json.loads(done.stdout)
    text = Page(replayed.page).text
    for number in (answer["messages"]["in_scope"], answer["totals"]["delayed"], answer["totals"]["lost"]):
        assert f"{number:,.0f}" in text
    # The base that a figure names is the count that it says: some of this store's mail is of unknown builds.
    read, delayed = answer["messages"]["read"], answer["totals"]["delayed"]
    assert read != answer["messages"]["in_scope"]
    assert f"{delayed:,.0f} of {read:,.0f} messages read" in text


def test_the_same_inputs_are_the_same_run(replayed: RunResult, store: Path, out: Path, tmp_path: Path) -> None:
    """Nothing changed: nothing runs, unless forced. Another store, policy text or parameter: another run."""
    again = report.run_report("03_replay", {"policies": ["ninety-days", "gentler"]}, store=store, out=out)
    assert (again.run, again.already_run, again.page) == (replayed.run, True, replayed.page)
    written = replayed.page.stat().st_mtime_ns
    forced = report.run_report("03_replay", {"policies": ["ninety-days", "gentler"]}, store=store, out=out, force=True)
    assert (forced.run, forced.already_run) == (replayed.run, False)
    assert forced.page.stat().st_mtime_ns > written

    mine = own_policy(tmp_path)

    def run_id(policies: list[str], place: Path = store) -> str:
        ((planned, is_done),) = report.plan_runs(["03_replay"], {"policies": policies}, store=place, out=out)
        assert not is_done
        return planned.run

    ids = [run_id([str(mine)]), run_id(["gentler"])]
    mine.write_text(mine.read_text(encoding="utf-8").replace("throttle = 5 ", "throttle = 6 "), encoding="utf-8")
    ids.append(run_id([str(mine)]))
    other = store_of(tmp_path / "other.duckdb", [("2026-01-01T10:00", "mx.contoso.example", "15.1.2507.35")])
    ids += [run_id(["gentler"], other), replayed.run]
    assert len(set(ids)) == len(ids)


def test_an_unchanged_report_is_answered_at_once(replayed: RunResult, store: Path, out: Path) -> None:
    """The heavy libraries are not even imported when everything is there."""
    assert replayed.page.is_file()
    script = (
        "import sys; from pathlib import Path; from enforcement import report\n"
        f"(r,) = report.run_all(['03_replay'], {{'policies': ['ninety-days', 'gentler']}}, store=Path({str(store)!r}), "
        f"out=Path({str(out)!r}))\n"
        "print(r.already_run, sorted({'papermill', 'nbconvert', 'altair', 'vl_convert', 'yaml'} & set(sys.modules)))"
    )
    began = time.perf_counter()
    done = subprocess.run([PYTHON, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True []"
    assert time.perf_counter() - began < 20  # far above what it takes, on however busy a machine


def test_a_failed_run_failed_everywhere(store: Path, out: Path, tmp_path: Path) -> None:
    """A guardrail that does not hold: result, record, page and index say so, and what came before can be read."""
    policy = own_policy(tmp_path, guardrail=FAILING)
    result = report.run_report("06_export", {"policy": str(policy)}, store=store, out=out)
    assert result.state == State.FAILED
    assert result.error is not None
    assert result.error.startswith("not exported: guardrails do not hold: lost_share_of_mail per total: fail")
    record = read_record(result.page.parent)
    assert record is not None
    assert (record["state"], record["error"]) == ("failed", result.error)
    page = Page(result.page)
    assert page.text.index(f"This run failed: {result.error}") < page.text.index("Signing off a policy")
    assert "✗ fail" in page.text
    assert "Here the run stopped." in page.text
    assert "Traceback" not in page.text
    assert "What would have come after this did not run." in page.text
    assert "What goes to production" in page.text
    assert not any(heading in page.text for heading in ("How to roll back", "What is assumed", "The calendar"))
    assert "story_sources.data_box(" in page.text  # the code is there whole
    assert not (out / "exports" / "mine").exists()
    assert any("failed" in str(element.get("class")) for _, element in Page(out / "index.html").elements)
    assert result.error[:60] in Page(out / "index.html").text
    # It is no result: asked again, it runs again.
    ((_, is_done),) = report.plan_runs(["06_export"], {"policy": str(policy)}, store=store, out=out)
    assert not is_done


def test_an_export_knows_the_run_that_chose_it(store: Path, out: Path) -> None:
    """The sign-off page and the manifest name each other."""
    result = made("06_export", {"policy": "gentler"}, store=store, out=out)
    manifest = json.loads((out / "exports" / "gentler" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["run"] == result.run
    text = Page(result.page).text
    for of in manifest["files"].values():
        assert of["sha256"] in text
    assert str(manifest["serial"]) in text


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("03_replay", {"policies": "gentler"}, "03_replay: policies = 'gentler' (expected a list of 1 to 12 policies"),
        ("03_replay", {"policies": []}, "03_replay: policies = [] (expected a list of 1 to 12"),
        ("03_replay", {"policies": ["gentle"]}, "03_replay: policies = ['gentle']: no policy 'gentle' ("),
        ("03_replay", {"polices": ["gentler"]}, "03_replay: no parameter 'polices' (did you mean policies?)"),
        ("03_replay", {"from_on": "soon"}, "03_replay: from_on = 'soon' (expected a day, e.g. 2026-10-31"),
        ("03_replay", {"from_on": 20260101}, "03_replay: from_on = 20260101 (expected a day"),
        ("03_replay", {"baseline": "nil"}, "03_replay: baseline = 'nil': no policy 'nil'"),
        ("03_replay", {"pauses": "nowhere.csv"}, "03_replay: pauses = 'nowhere.csv': no such file ("),
        ("06_export", {"revision": True}, "06_export: revision = True (expected a whole number from 0 to 99)"),
        ("06_export", {"revision": 100}, "06_export: revision = 100 (expected a whole number from 0 to 99)"),
        ("00_explore", {"last_days": "28"}, "00_explore: last_days = '28' (expected a whole number of days"),
        ("01_fleet", {"policy": "a\x1b[2J\n" * 40}, r"01_fleet: policy = 'a\x1b[2J\na\x1b[2J\n"),
        ("01_fleet", {"policy": "x" * 5000}, "01_fleet: policy = 'xxxxxxxx"),
    ],
)  # fmt: skip
def test_bad_parameters_are_refused_in_a_line(
    name: str, parameters: dict[str, object], message: str, store: Path, out: Path
) -> None:
    """Each line names the parameter, the value and what was expected, and nothing has run."""
    before = len(all_records(out))
    with pytest.raises(ParameterError) as error:
        report.run_report(name, parameters, store=store, out=out)
    (line,) = str(error.value).splitlines()
    assert line.startswith(message)
    assert line.isprintable()
    assert len(line) < 600
    assert len(all_records(out)) == before


def test_a_policy_with_errors_names_each(store: Path, out: Path, tmp_path: Path) -> None:
    """Two errors in the file are two lines that name the parameter, the file and the key."""
    policy = tmp_path / "broken.toml"
    text = own_policy(tmp_path).read_text(encoding="utf-8")
    policy.write_text(
        text.replace("throttle = 5 ", "throttle = 70 ").replace("block = 10", "blok = 10"), encoding="utf-8"
    )
    with pytest.raises(ParameterError) as error:
        report.run_report("02_policy", {"policy": str(policy)}, store=store, out=out)
    lines = str(error.value).splitlines()
    assert len(lines) == 2
    for line, key in zip(lines, ("stages[1].throttle", "stages[5].blok"), strict=True):
        assert line.startswith("02_policy: policy = ")
        assert f"broken.toml: {key}" in line


def test_an_unknown_notebook_and_a_missing_store_are_named(store: Path, out: Path) -> None:
    with pytest.raises(LookupError, match=r"no notebook '05_guess' \(expected one of 00_explore, 01_fleet"):
        report.run_report("05_guess", {}, store=store, out=out)
    with pytest.raises(ValueError, match="no such store"):
        report.run_report("01_fleet", {}, store=out / "none.duckdb", out=out)


def test_parameters_of_a_command_line_are_read_by_their_types() -> None:
    """A list is YAML, a text stays one; of a day that is none it is said what was expected."""
    read = parse_parameters(
        "03_replay", {"policies": "[ninety-days, mine.toml]", "from_on": "2026-08-01", "store": "5"}
    )
    assert read["policies"] == ["ninety-days", "mine.toml"]
    assert str(read["from_on"]) == "2026-08-01"
    assert read["store"] == "5"
    with pytest.raises(ParameterError, match=r"03_replay: policies = '\[a'"):
        parse_parameters("03_replay", {"policies": "[a"})
    no_day = parse_parameters("01_fleet", {"to_on": "2026-13-01"})
    with pytest.raises(ParameterError, match=r"01_fleet: to_on = '2026-13-01' \(expected a day, e\.g\. "):
        check_parameters("01_fleet", no_day)


def test_the_baseline_is_what_the_first_policy_names() -> None:
    """Unless another one, or none, is asked for; it is replayed once and first."""
    assert check_parameters("03_replay", {"policies": ["gentler", "stricter"]}).policy_names == (
        "ninety-days", "gentler", "stricter",
    )  # fmt: skip
    assert check_parameters("03_replay", {"policies": ["gentler"], "baseline": "none"}).policy_names == ("gentler",)
    both = check_parameters("03_replay", {"policies": ["gentler", "stricter"], "baseline": "stricter"})
    assert both.policy_names == ("stricter", "gentler")


def test_a_killed_run_has_failed(store: Path, tmp_path: Path) -> None:
    """While its program lives it runs; once the program is gone it has failed, with a page and a line that say so."""
    script = (
        "import sys, time; from pathlib import Path\n"
        "from enforcement.report_parameters import check_parameters\n"
        "from enforcement.report_runs import held, plan, started\n"
        f"asked = check_parameters('01_fleet', {{'store': {str(store)!r}}})\n"
        f"planned = plan('01_fleet', asked, Path({str(tmp_path)!r}))\n"
        "with held(planned.folder):\n"
        "    started(planned)\n"
        "    print('running', flush=True)\n"
        "    time.sleep(120)\n"
    )
    with subprocess.Popen([PYTHON, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        assert [record["state"] for _, record in all_records(tmp_path)] == ["running"]
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    write_index(tmp_path)
    ((folder, record),) = all_records(tmp_path)
    assert record["state"] == "failed"
    assert "the program that ran it is gone" in Page(folder / "page.html").text
    assert "the program that ran it is gone" in Page(tmp_path / "index.html").text


def test_a_dying_kernel_is_a_failed_run(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that is killed under way leaves a run that has failed, with a page."""
    notebooks = tmp_path / "notebooks"
    notebooks.mkdir()
    notebook = json.loads(Path("notebooks/01_fleet.ipynb").read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if cell["id"] == "answer":
            cell["source"] = ["import os, signal\n", "os.kill(os.getpid(), signal.SIGKILL)"]
    (notebooks / "01_fleet.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    monkeypatch.setattr("enforcement.report_runs.NOTEBOOKS", notebooks)
    monkeypatch.setattr("enforcement.report_kernel.NOTEBOOKS", notebooks)
    result = report.run_report("01_fleet", {}, store=store, out=tmp_path / "out")
    assert result.state == "failed"
    assert re.fullmatch(
        r"the kernel died \(it was killed, or the machine ran out of memory\): "
        r"it had \d[\d,]* MB of memory at most, and \d[\d,]* MB were free on the machine",
        str(result.error),
    )
    assert (read_record(result.page.parent) or {})["peak_memory_bytes"] > 50e6
    assert "This run failed:" in Page(result.page).text


def test_two_reports_at_once_do_not_harm_each_other(store: Path, tmp_path: Path) -> None:
    """Two programs ask for the same run: one runs it, the other waits and takes it; the index lists it once."""
    script = (
        "import json; from pathlib import Path; from enforcement import report\n"
        f"r = report.run_report('00_explore', {{}}, store=Path({str(store)!r}), out=Path({str(tmp_path)!r}))\n"
        "print(json.dumps([r.run, r.state, r.already_run]))"
    )
    both = [subprocess.Popen([PYTHON, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    ended = [json.loads(process.communicate()[0]) for process in both]
    assert len({run for run, *_ in ended}) == 1
    assert [state for _, state, _ in ended] == ["done", "done"]
    assert sorted(already for *_, already in ended) == [False, True]
    hrefs = [element["href"] for tag, element in Page(tmp_path / "index.html").elements if tag == "a"]
    assert hrefs == [f"00_explore/{ended[0][0]}/page.html"]


def test_an_index_is_always_whole(store: Path, tmp_path: Path) -> None:
    """Many write it while others read it: no reader ever sees a part of it."""
    planned = plan("01_fleet", check_parameters("01_fleet", {"store": str(store)}), tmp_path)
    with held(planned.folder):
        started(planned)
    write_index(tmp_path)

    def read(_: int) -> bool:
        return (tmp_path / "index.html").read_text(encoding="utf-8").rstrip().endswith("</html>")

    with ThreadPoolExecutor(8) as pool:
        writes = [pool.submit(write_index, tmp_path) for _ in range(20)]
        assert all(pool.map(read, range(200)))
        assert {write.result() for write in writes} == {tmp_path / "index.html"}
    assert not list(tmp_path.glob(".index.html.*"))


def test_a_damaged_record_harms_no_other(tmp_path: Path) -> None:
    """A record that cannot be read, or says nonsense, is left out of the index."""
    for number, text in enumerate(("{", "[]", '{"state": "<b>"}', "\x00")):
        write_whole(tmp_path / "01_fleet" / str(number) / "run.json", text)
    good = {"state": "done", "name": HOSTILE, "policies": [HOSTILE], "started_at": HOSTILE, "seconds": 1.5, "run": "x"}
    write_whole(tmp_path / "01_fleet" / "good" / "run.json", json.dumps(good))
    index = Page(write_index(tmp_path))
    assert [element["href"] for tag, element in index.elements if tag == "a"] == ["01_fleet/good/page.html"]
    assert not [tag for tag, _ in index.elements if tag == "img"]
    assert [attributes.get("type") for tag, attributes in index.elements if tag == "script"] == [
        "application/json",
        None,
    ]
    data, own = index.scripts
    assert json.loads(data)[0]["title"].startswith(HOSTILE)
    assert own == Path("enforcement/page/runs.js").read_text(encoding="utf-8")


def test_only_the_newest_runs_are_kept(tmp_path: Path) -> None:
    """Of each notebook the newest stay; folders that are no run are not touched."""
    for day in (1, 2, 3):
        record = {"state": "done", "name": "01_fleet", "policies": [], "started_at": f"2026-01-0{day}T00:00:00+00:00"}
        write_whole(tmp_path / "01_fleet" / f"run{day}" / "run.json", json.dumps(record))
    write_whole(tmp_path / "exports" / "mine" / "manifest.json", "{}")
    assert report.prune(tmp_path, 1) == ["01_fleet/run2", "01_fleet/run1"]
    assert sorted(path.name for path in tmp_path.glob("*/*")) == ["mine", "run3"]


def test_a_run_that_is_done_outlives_failed_ones(tmp_path: Path) -> None:
    """Failures do not drive out the last good page; a dry run names what would go, and removes nothing."""
    for day, state in ((1, "done"), (2, "done"), (3, "failed"), (4, "failed")):
        record = {"state": state, "name": "weekly", "policies": [], "started_at": f"2026-01-0{day}T00:00:00+00:00"}
        write_whole(tmp_path / "weekly" / f"run{day}" / "run.json", json.dumps(record))
    assert report.prune(tmp_path, 1, is_dry=True) == ["weekly/run3", "weekly/run1"]
    assert report.prune(tmp_path, 1, is_dry=True, to_come=["weekly"]) == [f"weekly/run{day}" for day in (4, 3, 2, 1)]
    assert len(list(tmp_path.glob("weekly/*"))) == 4
    assert report.prune(tmp_path, 1) == ["weekly/run3", "weekly/run1"]
    assert sorted(path.name for path in tmp_path.glob("weekly/*")) == ["run2", "run4"]


def test_no_text_from_outside_becomes_markup(attacked: list[Path]) -> None:
    """Scripts, links, templates and markup in policies, tenants, sources and rejects are shown as letters."""
    for path in attacked:
        page = Page(path)
        for tag, attributes in page.elements:
            assert not [name for name in attributes if name.startswith("on")], (path, tag, attributes)
            for name in ("href", "src"):
                value = attributes.get(name) or ""
                assert re.match(r"^($|#|data:image/svg\+xml;base64,|tables/\w+\.csv$|\w+/\w+/page\.html$)", value), (
                    value
                )
        assert not [script for script in page.scripts if "owned" in script and not script.startswith("{")]
        assert "49" not in re.findall(r"\{\{ (\d+) \}\}", page.text)
    policy_page, replay_page, explore_page, _ = (Page(path).text for path in attacked)
    assert " ".join(HOSTILE.split()) in policy_page
    assert " ".join(TEMPLATED.split()) in policy_page
    assert " ".join(HOSTILE.split()) in replay_page  # the tenant
    assert f"{HOSTILE}.csv" in explore_page  # the source


def test_data_in_a_script_cannot_end_it(attacked: list[Path]) -> None:
    """What charts draw is data between two tags, in which no other tag can begin."""
    for path in attacked[:2]:
        text = path.read_text(encoding="utf-8")
        data = re.findall(r'<script type="application/json">(.*?)</script>', text, flags=re.DOTALL)
        assert data
        for block in data:
            assert "<" not in block
            json.loads(block)


def test_the_page_runs_no_script_but_its_own(attacked: list[Path]) -> None:
    """The content policy allows two scripts by their hashes, and neither hosts nor eval."""
    for path in attacked[:2]:
        text = path.read_text(encoding="utf-8")
        (allowed,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', text)
        directives = dict(part.strip().split(" ", 1) for part in allowed.split(";"))
        assert directives["default-src"] == "'none'"
        scripts = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
        hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
        assert directives["script-src"].split() == [f"'sha256-{digest}'" for digest in hashes]
        assert len(scripts) == 2


def test_a_table_is_there_whole_and_no_spreadsheet_runs_it(attacked: list[Path]) -> None:
    """What a page cuts is beside it as a file: every row, and no cell that begins a formula."""
    folder = attacked[1].parent / "tables"
    hit = pl.read_csv(folder / "tenants_hit.csv")
    page = Page(attacked[1])
    assert f"tenants_hit.csv , {hit.height:,} rows" in page.text
    assert HOSTILE in hit["tenant"].to_list()
    for path in folder.iterdir():
        assert not re.search(r"(?m)^[=+@]", path.read_text(encoding="utf-8"))
    assert safe_csv(pl.DataFrame({"a": ["=1"]})) == "a\n'=1\n"
    full_width = [f"{chr(ord(sign) + 0xFEE0)}1" for sign in "=+-@"]
    assert safe_csv(pl.DataFrame({"a": full_width})).splitlines()[1:] == [f"'{text}" for text in full_width]


def test_pictures_stand_in_for_charts_without_scripts(replayed: RunResult) -> None:
    """Each chart has a still picture that shows when scripts do not run."""
    text = replayed.page.read_text(encoding="utf-8")
    pictures = re.findall(r'<noscript><img alt="([^"]+)" src="data:image/svg\+xml;base64,([^"]+)"></noscript>', text)
    assert len(pictures) == text.count('<figure class="chart">') == 6
    for caption, picture in pictures:
        assert caption.endswith("?")
        assert base64.b64decode(picture).startswith(b"<svg")


@pytest.mark.parametrize(
    ("given", "compared"),
    [
        ({"policy": "gentler"}, ["ninety-days", "gentler"]),  # what it names as its baseline
        ({"policy": "gentler", "baseline": "none"}, ["gentler"]),
        ({"policy": "gentler", "baseline": "gentler"}, ["gentler"]),
        ({"policy": "gentler", "baseline": "stricter"}, ["stricter", "gentler"]),
    ],
)
def test_an_export_is_held_against_the_policy_in_force(given: dict[str, str], compared: list[str]) -> None:
    asked = check_parameters("06_export", given)
    assert isinstance(asked, AskedExport)
    assert asked.compared == compared
