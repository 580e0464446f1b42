"""The pictures of the README, taken from pages in a browser: `make gallery`.

    python tests/gallery.py [--messages N] [--out DIR]

The pages are those of the sample that `enforcement sample` makes, so the same program gives the same pictures.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import polars as pl
from playwright.sync_api import Locator, Page, sync_playwright

from enforcement import intake, report
from enforcement.sample import Extent
from enforcement.tenants import reports_on, write_tenants
from enforcement.workbench import Setting

ROOT: Final = Path(__file__).parents[1]
CHROMIUM: Final = "/usr/bin/chromium"
POLICIES: Final = ["ninety-days", "gentler", "stricter"]
_WIDTH: Final = 1000
_TOP: Final = 720  # how much of a page's top a picture shows


def _chart(number: int) -> Callable[[Page], bytes]:
    def shoot(page: Page) -> bytes:
        figure: Locator = page.locator("figure.chart").nth(number)
        figure.locator("svg.marks").wait_for()
        return figure.screenshot()

    return shoot


def _top(page: Page) -> bytes:
    return page.screenshot(clip={"x": 0, "y": 0, "width": _WIDTH, "height": _TOP})


# Picture → the page that it is taken from, and what of it.
PICTURES: Final[dict[str, tuple[str, Callable[[Page], bytes]]]] = {
    "schedule_strip.png": ("03_replay", _chart(0)),
    "outcome_by_day.png": ("03_replay", _chart(1)),
    "weekly.png": ("weekly", _top),
    "tenant.png": ("tenant", _top),
    "reports.png": ("index", _top),
}


def pages(folder: Path, extent: Extent) -> dict[str, Path]:
    """Make the pages that pictures are taken from."""
    store, out = folder / "traffic.duckdb", folder / "reports"
    intake.make_sample(store, extent)
    found = {}
    for name, parameters in (("03_replay", {"policies": POLICIES}), ("weekly", {})):
        result = report.run_report(name, parameters, store=store, out=out)
        if result.error:
            raise SystemExit(f"{name}: {result.error}")
        found[name] = result.page
    known = reports_on("ninety-days", Setting(store=store))
    listed = write_tenants(known, folder / "tenants").listed
    # One of a size that a picture can show, with a change to come.
    fitting = listed.drop_nulls("next_on").filter(pl.col("servers").is_between(3, 5))
    page = (fitting if fitting.height else listed)["page"][0]
    return found | {"tenant": folder / "tenants" / page, "index": out / "index.html"}


def shoot(found: dict[str, Path], out: Path) -> None:
    """Take each picture, with the network off, sharp enough for a screen of two pixels a point."""
    out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        context = browser.new_context(
            viewport={"width": _WIDTH, "height": 900}, device_scale_factor=2, offline=True, timezone_id="UTC"
        )
        for name, (source, take) in PICTURES.items():
            page = context.new_page()
            page.goto(found[source].as_uri())
            page.wait_for_timeout(1_000)  # charts are drawn twice when their first width was a guess
            (out / name).write_bytes(take(page))
            page.close()
        browser.close()


def main() -> None:
    """Make all pictures anew."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, default=ROOT / "reports" / "gallery")
    asked = parser.parse_args()
    if not shutil.which(CHROMIUM):
        raise SystemExit(f"no browser at {CHROMIUM} (on Debian: apt-get install chromium)")
    with tempfile.TemporaryDirectory(prefix="gallery-") as folder:
        shoot(pages(Path(folder), Extent(messages=asked.messages)), asked.out)
    print("\n".join(str(asked.out / name) for name in PICTURES), file=sys.stderr)


if __name__ == "__main__":
    main()
