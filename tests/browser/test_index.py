"""Pages, index and pages for tenants in a browser: nothing that axe finds, filters that filter, runs side by side."""

import json
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from pages import HOSTILE, made, own_policy, small_store
from playwright.sync_api import Browser, Page

from enforcement import report
from enforcement.report_index import write_index
from enforcement.report_runs import write_whole
from enforcement.tenants import reports_on, write_tenants
from enforcement.workbench import Setting

SCREENSHOTS = Path(__file__).parents[2] / "reports" / "screenshots"
SERIOUS = ("serious", "critical")
FAILING = '\n[[guardrails]]\nmeasure = "lost_share_of_mail"\nper = "total"\nat_most = 0.0\nmin_messages = 1\n'


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A weekly page, two of fleets, a failed run, an index with many more, and the page of a hostile tenant."""
    out = tmp_path_factory.mktemp("index")
    store = small_store(out / "traffic.duckdb")
    found = {"weekly": made("weekly", {"draws": 20}, store=store, out=out).page}
    found |= {policy: made("01_fleet", {"policy": policy}, store=store, out=out).page
              for policy in ("gentler", "stricter")}  # fmt: skip
    policy = str(own_policy(out, guardrail=FAILING))
    found["failed"] = report.run_report("06_export", {"policy": policy}, store=store, out=out).page
    for number in range(40):
        record = {"state": "done", "name": "00_explore", "policies": [HOSTILE] if number == 0 else [],
                  "started_at": f"2026-01-{number % 28 + 1:02}T05:30:00+00:00", "seconds": 1.0}  # fmt: skip
        write_whole(out / "00_explore" / f"old{number:02}" / "run.json", json.dumps(record))
    found["index"] = write_index(out)
    folder = out / "for-tenants"
    known = reports_on("ninety-days", Setting(store=store))
    written = write_tenants(known, folder)
    several = written.listed.sort("servers", descending=True)["page"][0]
    return found | {"tenant": folder / several}


def _opened(browser: Browser, path: Path, width: int = 1280) -> tuple[Page, list[str]]:
    """Open a page with the network off; also gives what it asked for."""
    page = browser.new_context(viewport={"width": width, "height": 900}, offline=True).new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    for figure in page.query_selector_all("figure.chart"):
        figure.wait_for_selector("svg.marks", timeout=30_000)
    return page, asked


def _findings(page: Page) -> list[str]:
    return [
        f"{found['id']} ({found['impact']}): {found['nodes'][0]['html'][:200]}"
        for found in Axe().run(page).response["violations"]
        if found["impact"] in SERIOUS
    ]


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", ["index", "weekly", "gentler", "failed", "tenant"])
def test_axe_finds_nothing_serious(name: str, width: int, browser: Browser, pages: dict[str, Path]) -> None:
    """Names for all controls, contrast, order of headings, tables with heads; and nothing scrolls sideways."""
    page, asked = _opened(browser, pages[name], width)
    assert asked == [pages[name].as_uri()]
    assert _findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}_{width}.png", full_page=True)
    page.context.close()


def test_axe_would_find_a_barrier(browser: Browser, pages: dict[str, Path]) -> None:
    """The check can fail: a field without a name and letters too faint to read are found."""
    page, _ = _opened(browser, pages["index"])
    page.evaluate("""() => { document.querySelector('main').insertAdjacentHTML('beforeend',
        '<input type="text"><p style="color:#ddd;background:#fff">faint</p>'); }""")
    assert {finding.split()[0] for finding in _findings(page)} == {"label", "color-contrast"}
    page.context.close()


def test_the_list_filters(browser: Browser, pages: dict[str, Path]) -> None:
    """By report, policy, state and date, alone and together; the count says how many are listed."""
    page, _ = _opened(browser, pages["index"])

    def listed(**asked: str) -> list[str]:
        for key in ("name", "policy", "state", "from", "until"):
            box = page.locator(f"[data-filter={key}]")
            if key in ("from", "until"):
                box.fill(asked.get(key, ""))
            else:
                box.select_option(asked.get(key, ""))
        rows = page.locator("#runs tbody tr:visible")
        assert page.locator("#shown").inner_text() == str(rows.count())
        return [row.get_attribute("data-name") or "" for row in rows.all()]

    assert len(listed()) == 44
    assert listed(name="01_fleet") == ["01_fleet"] * 2
    assert listed(name="01_fleet", policy="stricter") == ["01_fleet"]
    assert listed(policy=HOSTILE) == ["00_explore"]
    assert listed(state="failed") == ["06_export"]
    assert listed(**{"from": "2026-01-03", "until": "2026-01-04"}) == ["00_explore"] * 4
    assert listed(state="failed", until="2026-01-04") == []
    page.context.close()


def test_what_failed_is_seen_first(browser: Browser, pages: dict[str, Path]) -> None:
    """Above everything: which report failed when last run, when, and why; its page is one click away."""
    page, _ = _opened(browser, pages["index"])
    box = page.locator(".failure")
    assert "One report failed when last run." in box.inner_text()
    assert "not exported: guardrails do not hold" in box.inner_text()
    place = box.bounding_box()
    assert place
    assert place["y"] < 200
    box.locator("a").click()
    assert "This run failed" in page.inner_text("main")
    page.context.close()


def test_two_runs_side_by_side(browser: Browser, pages: dict[str, Path]) -> None:
    """By keyboard: facts in two columns, differences marked, both pages below; a third choice replaces the first."""
    page, asked = _opened(browser, pages["index"])
    rows = page.locator("#runs tbody tr[data-name='01_fleet']")
    for number in range(2):
        rows.nth(number).locator("input").focus()
        page.keyboard.press("Space")
    beside = page.locator("#beside")
    beside.wait_for()
    differs = [cell.split(" (differs)")[0] for cell in beside.locator("tr.differs th").all_inner_texts()]
    assert {"policy", "answer", "vulnerable servers"} <= set(differs)
    assert not {"store", "traffic", "python", "state"} & set(differs)
    policy = beside.locator("tr.differs", has_text="policy (differs)").first.locator("td")
    assert set(policy.all_inner_texts()) == {"gentler", "stricter"}
    frames = [frame for frame in page.frames if frame.parent_frame]
    for frame in frames:
        frame.wait_for_selector("p.answer")
        assert frame.locator("figure.chart img").first.is_visible()  # no script runs in there
    assert {frame.url for frame in frames} == {pages[name].as_uri() for name in ("gentler", "stricter")}
    assert all(url.startswith(("file:", "data:")) for url in asked)
    assert _findings(page) == []
    page.screenshot(path=SCREENSHOTS / "side_by_side_1280.png", full_page=True)
    page.locator("#runs tbody tr[data-name='weekly'] input").check()
    assert page.locator("[data-pick]:checked").count() == 2
    page.context.close()


def test_without_scripts_the_list_is_there(browser: Browser, pages: dict[str, Path]) -> None:
    """All runs, their states and errors, and links to their pages."""
    page = browser.new_context(java_script_enabled=False, offline=True).new_page()
    page.goto(pages["index"].as_uri())
    assert page.locator("#runs tbody tr:visible").count() == 44
    assert "not exported: guardrails do not hold" in page.inner_text("#runs")
    page.context.close()
