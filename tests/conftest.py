"""What the tests share: where real data are, and how a test that needs an absent part is skipped or failed."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest


def absent(reason: str) -> NoReturn:
    """Skip the test at a user's, who may lack this part; fail it where everything must be there."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real mail samples, which are not part of the project."""
    folder = os.environ.get("ENFORCEMENT_REAL_DATA")
    if not folder:
        absent("ENFORCEMENT_REAL_DATA names no folder with the real mail samples")
    return Path(folder)


@pytest.fixture(scope="module")  # not longer: while it is open, nothing else of its thread can use asyncio
def browser() -> Iterator[Any]:
    """Chromium, for pages."""
    from pages import CHROMIUM, FLAGS  # noqa: PLC0415 - only tests of pages need them
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - the same

    if not shutil.which(CHROMIUM):
        absent(f"no browser at {CHROMIUM}")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


_LONGEST = ("test_spark_cluster", "test_readme", "test_engines")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes minutes, so that at the end no worker waits for another."""
    items.sort(key=lambda item: not any(name in item.nodeid for name in _LONGEST))
