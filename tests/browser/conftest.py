"""What the tests in a browser share: a designer that is open in JupyterLab."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import Lab, designed_folder, started
from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the notebook, a policy of one's own, and a small history."""
    return designed_folder(tmp_path_factory.mktemp("designer"))


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """A JupyterLab on that folder."""
    with started(folder) as found:
        yield found


@pytest.fixture(scope="module")
def lab(browser: Browser, address: str) -> Lab:
    return Lab(browser, address)
