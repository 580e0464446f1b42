"""A page in a browser: it needs no network, its charts answer to the mouse, and it fits every screen."""

from pathlib import Path

import pytest
from pages import hostile_policy, made, small_store
from playwright.sync_api import Browser, BrowserContext, Page

WIDTHS = (1280, 390)
SCREENSHOTS = Path(__file__).parents[2] / "reports" / "screenshots"
REPORTS = ("00_explore", "01_fleet", "02_policy", "03_replay", "06_export")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of each notebook, and one of a policy and of traffic that are full of attacks."""
    out = tmp_path_factory.mktemp("browser")
    store = small_store(out / "traffic.duckdb")
    found = {name: made(name, {}, store=store, out=out).page for name in REPORTS}
    attack = str(hostile_policy(out))
    found["hostile"] = made("02_policy", {"policy": attack}, store=store, out=out).page
    found["index"] = out / "index.html"
    return found


class Seen:
    """What a page did while it was open: what it asked for, what it complained of."""

    def __init__(self, context: BrowserContext, path: Path) -> None:
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page: Page = context.new_page()
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(path.as_uri())
        for figure in self.page.query_selector_all("figure.chart"):
            figure.wait_for_selector("svg.marks", timeout=30_000)
        self.page.wait_for_timeout(300)  # a chart is drawn a second time when its first width was a guess


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", [*REPORTS, "hostile", "index"])
def test_a_page_opens_offline_and_fits(name: str, width: int, browser: Browser, pages: dict[str, Path]) -> None:
    """No request but for the file itself, no complaint, every chart drawn as wide as its column, no sideways scroll."""
    context = browser.new_context(viewport={"width": width, "height": 900}, offline=True)
    seen = Seen(context, pages[name])
    assert seen.requests == [pages[name].as_uri()]
    assert seen.complaints == []
    assert seen.page.evaluate("document.documentElement.scrollWidth") == width
    for figure in seen.page.query_selector_all("figure.chart"):
        column = figure.query_selector(".plot").bounding_box()  # type: ignore[union-attr]  # each chart has a plot
        drawn = figure.query_selector("svg.marks").bounding_box()  # type: ignore[union-attr]  # waited for above
        assert column
        assert drawn
        assert 0.93 * column["width"] <= drawn["width"] <= column["width"] + 1
        assert len(figure.query_selector_all("svg.marks path, svg.marks text")) > 5
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    seen.page.screenshot(path=SCREENSHOTS / f"{name}_{width}.png", full_page=True)
    context.close()


def test_text_is_readable(browser: Browser, pages: dict[str, Path]) -> None:
    """16 px, and at most 75 letters in a line of running text."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = Seen(context, pages["03_replay"]).page
    assert page.evaluate("getComputedStyle(document.body).fontSize") == "16px"
    longest = page.evaluate(
        """() => Math.max(...Array.from(document.querySelectorAll('main > p:not([class]), main li, p.answer'), p => {
          const range = document.createRange(); range.selectNodeContents(p);
          const tops = {}; const text = p.textContent;
          const walker = document.createTreeWalker(p, NodeFilter.SHOW_TEXT);
          for (let node = walker.nextNode(); node; node = walker.nextNode())
            for (let i = 0; i < node.length; i += 1) {
              range.setStart(node, i); range.setEnd(node, i + 1);
              const box = range.getClientRects()[0];
              if (box) { const row = Math.round(box.bottom / 8); tops[row] = (tops[row] || 0) + 1; }
            }
          return Math.max(...Object.values(tops));
        }))"""
    )
    assert 40 < longest <= 75
    context.close()


def test_a_chart_answers_to_the_mouse(browser: Browser, pages: dict[str, Path]) -> None:
    """Over a stage of the strip its phase and minutes appear, over the lines of a day all its numbers."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    page = Seen(context, pages["03_replay"]).page
    strip, by_day = page.query_selector_all("figure.chart")[:2]
    for figure, mark, words in (
        (strip, ".mark-rect path", ("phase", "minutes blocked", "on the clock")),
        (by_day, ".mark-rule line", ("at once", "delayed", "rejected", "expired", "mail read")),
    ):
        marks = figure.query_selector_all(mark)
        marks[len(marks) // 2].scroll_into_view_if_needed()
        box = marks[len(marks) // 2].bounding_box()
        assert box
        page.mouse.move(5, 5)
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=4)
        tip = page.wait_for_selector("#vg-tooltip-element.visible", timeout=5_000)
        assert tip
        told = tip.inner_text()
        assert all(word in told for word in words), told
    context.close()


def test_days_are_utc_days_everywhere(browser: Browser, pages: dict[str, Path]) -> None:
    """West and east of Greenwich the axis of a chart names the same days at the same places."""
    ticks = []
    for zone in ("America/Los_Angeles", "UTC", "Pacific/Auckland"):
        context = browser.new_context(viewport={"width": 1280, "height": 900}, timezone_id=zone)
        figure = Seen(context, pages["03_replay"]).page.query_selector_all("figure.chart")[1]
        ticks.append([text.text_content() for text in figure.query_selector_all(".role-axis-label text")])
        context.close()
    assert ticks[0] == ticks[1] == ticks[2]
    assert any("2026" in str(text) for text in ticks[0])


def test_without_scripts_text_figures_and_pictures_are_there(browser: Browser, pages: dict[str, Path]) -> None:
    """A reader without scripts sees the answer, the figures, the tables, and a still picture for each chart."""
    context = browser.new_context(viewport={"width": 390, "height": 900}, java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto(pages["03_replay"].as_uri())
    assert page.locator("p.answer").is_visible()
    assert page.locator(".figure .value").count() == 5
    assert page.locator("table").count() >= 5
    pictures = page.locator("figure.chart img")
    assert pictures.count() == page.locator("figure.chart").count() > 0
    for n in range(pictures.count()):
        box = pictures.nth(n).bounding_box()
        assert box
        assert box["width"] > 300
        assert box["height"] > 60
    context.close()


def test_an_attack_does_nothing(browser: Browser, pages: dict[str, Path]) -> None:
    """No script out of a policy or a name has run, and no text of theirs has become an element or a link."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = Seen(context, pages["hostile"]).page
    assert page.title().startswith("What does this policy do")
    assert page.query_selector_all("a[href^='javascript'], img[src='x'], b:text-is('all')") == []
    assert "javascript:document.title" in page.inner_text("main")
    for link in page.query_selector_all("main a:not(.anchor-link)"):
        assert str(link.get_attribute("href")).startswith("tables/")
    context.close()


def test_a_page_prints(browser: Browser, pages: dict[str, Path], tmp_path: Path) -> None:
    """On paper the page has its charts, and nothing is wider than the sheet."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = Seen(context, pages["03_replay"]).page
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 700, "height": 990})
    page.wait_for_timeout(500)
    assert page.evaluate("Array.from(document.querySelectorAll('svg.marks'), s => s.getBoundingClientRect().right)")
    assert page.evaluate("document.documentElement.scrollWidth") <= 700
    pdf = page.pdf(path=tmp_path / "page.pdf", format="A4")
    assert pdf.startswith(b"%PDF")
    context.close()
