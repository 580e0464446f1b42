"""A designer in real JupyterLab, for tests: started on a folder of its own, and driven as a user drives it."""

import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pages import GUARDRAILS, PYTHON, own_policy, small_store
from playwright.sync_api import Browser, Locator, Page
from playwright.sync_api import Error as PlaywrightError

from enforcement import shipped
from enforcement.report_parameters import NOTEBOOKS

SCREENSHOTS = Path(__file__).parents[1] / "reports" / "screenshots"
TOKEN = "browser-test"
WIDTH = 1280
STARTS_S, RUNS_MS = 90, 40_000


def designed_folder(folder: Path) -> Path:
    """Fill a folder with the notebook, set to a policy of one's own with comments and to a small history."""
    store = small_store(folder / "traffic.duckdb")
    policy = own_policy(folder, guardrail=GUARDRAILS)
    notebook = json.loads((NOTEBOOKS / "02_policy.ipynb").read_text(encoding="utf-8"))
    (cell,) = (cell for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", ()))
    cell["source"] = [f"store = {str(store)!r}\n", f"policy = {str(policy)!r}\n"]
    (folder / "design.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    return folder


@contextmanager
def started(folder: Path) -> Iterator[str]:
    """Start a JupyterLab of its own, on this machine only, with the settings that `enforcement lab` gives it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "ServerApp.root_dir": folder, "ServerApp.ip": "127.0.0.1", "ServerApp.port": port,
        "ServerApp.open_browser": False,
        "IdentityProvider.token": TOKEN, "LabApp.news_url": None, "LabApp.extension_manager": "readonly",
        "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate", "ServerApp.allow_root": True,
    }  # fmt: skip
    private = {
        name: str(folder / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
    } | {"JUPYTER_CONFIG_PATH": str(shipped.DATA / "lab")}
    with (folder / "lab.log").open("w") as log:
        lab = subprocess.Popen(
            [PYTHON, "-m", "jupyterlab", *(f"--{name}={value}" for name, value in settings.items())],
            cwd=folder, env=os.environ | private, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        try:
            _until(lambda: _answers(port), STARTS_S, (folder / "lab.log").read_text)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(lab.pid, signal.SIGTERM)
            try:
                lab.wait(timeout=15)
            except subprocess.TimeoutExpired:
                os.killpg(lab.pid, signal.SIGKILL)


def _answers(port: int) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/api?token={TOKEN}", timeout=2) as answer:
        return bool(answer.status == 200)
    return False


def _until(is_so: Callable[[], object], seconds: float, told: Callable[[], str] = str) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, told()
        time.sleep(0.1)


class Lab:
    """A designer that is open in a browser."""

    HEIGHT = 1000

    def __init__(self, browser: Browser, address: str) -> None:
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page: Page = browser.new_page(viewport={"width": WIDTH, "height": self.HEIGHT})
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(f"{address}/lab/tree/design.ipynb?token={TOKEN}&reset")
        self.page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]", timeout=RUNS_MS)
        self.page.wait_for_selector("text=/Python 3 .* Idle/", timeout=RUNS_MS)
        self.page.keyboard.press("Control+B")  # the list of files makes way
        self.run()

    def run(self) -> None:
        """Run all cells, and wait for the designer's first picture."""
        self.page.click("text=Run >> nth=0")
        self.page.click("text=Run All Cells")
        try:
            self.page.wait_for_selector(".enf-designer .strip .stage", state="attached", timeout=RUNS_MS)
        except PlaywrightError:
            SCREENSHOTS.mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=SCREENSHOTS / "designer_failed.png")
            raise
        self.settled()
        self.page.wait_for_timeout(500)
        self.comes_into_sight = 0 <= self.top() < self.HEIGHT / 2
        self.root.scroll_into_view_if_needed()

    def top(self) -> float:
        """Give how far down the window the designer begins."""
        box = self.root.bounding_box()
        assert box
        return box["y"]

    @property
    def root(self) -> Locator:
        return self.page.locator(".enf-designer").first

    def settled(self) -> None:
        """Wait until the kernel has answered everything and the picture stands."""
        self.page.wait_for_selector(".enf-designer[aria-busy=false]", timeout=60_000)
        self.page.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done, 30)))")

    def handle(self, key: str) -> Locator:
        return self.root.locator(f"[data-key='{key}']")

    def value(self, key: str) -> int:
        return int(self.handle(key).get_attribute("aria-valuenow") or "")

    def line(self, name: str) -> str:
        return self.root.locator(f"svg.lines.{name} path.now").get_attribute("d") or ""

    def figure(self, name: str) -> str:
        return self.root.locator(f".figure.{name} b").inner_text()

    def drag(self, key: str, x: int, y: int, *, steps: int = 12, apart_ms: int = 25) -> None:
        """Drag a handle by pixels, at the pace of a hand."""
        self.handle(key).scroll_into_view_if_needed()
        box = self.handle(key).bounding_box()
        assert box
        at = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        self.page.mouse.move(*at)
        self.page.mouse.down()
        for step in range(1, steps + 1):
            self.page.mouse.move(at[0] + x * step / steps, at[1] + y * step / steps)
            self.page.wait_for_timeout(apart_ms)
        self.page.mouse.up()
        self.settled()

    def button(self, name: str) -> Locator:
        return self.root.locator(".foot button", has_text=re.compile(f"^{name}"))

    def empty_trips(self) -> list[float]:
        """Measure how long the kernel takes for an answer that needs no work, in milliseconds."""
        times: list[float] = self.page.evaluate(
            """async () => { const { designer } = document.querySelector('.enf-designer'); const found = [];
            for (let n = 0; n < 15; n += 1) {
              const began = performance.now(); designer.wish({ do: 'nothing' });
              while (designer.inFlight) await new Promise(done => setTimeout(done, 1));
              found.push(performance.now() - began); await new Promise(done => setTimeout(done, 25));
            } return found; }"""
        )
        return times

    def undo_all(self) -> None:
        while self.button("Undo").is_enabled():
            self.button("Undo").click()
            self.settled()

    def shot(self, name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.set_viewport_size({"width": WIDTH, "height": 2300})
        self.root.evaluate("root => root.scrollIntoView({ block: 'start' })")
        self.page.wait_for_timeout(200)
        self.root.screenshot(path=SCREENSHOTS / f"designer_{name}.png")
        self.page.set_viewport_size({"width": WIDTH, "height": self.HEIGHT})
