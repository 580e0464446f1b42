"""`enforcement lab`: JupyterLab on the designer, as root in a container too, and without questions about news."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from enforcement import __main__ as main
from enforcement import shipped

# What JupyterLab would set by itself, read in a process of its own: it remembers where it looked.
READ = """
from jupyterlab_server.settings_utils import _get_overrides
import json
print(json.dumps(_get_overrides("/nowhere")[0]))
"""


def _started(monkeypatch: pytest.MonkeyPatch, *, user: int) -> list[str]:
    """Give the command that would be started, by a user of that number."""
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, command: started.append(command))
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "/mine")
    main.lab(port=8899)
    return started[0]


def test_root_is_told_and_let_in(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Containers have no other user; JupyterLab alone would name an option that `make lab` cannot take, and end."""
    command = _started(monkeypatch, user=0)
    assert command[0] == sys.executable
    assert {"--port=8899", "--allow-root", "--LabApp.default_url=/lab/tree/notebooks/02_policy.ipynb"} <= set(command)
    assert "you are root" in capsys.readouterr().err
    assert "--allow-root" not in _started(monkeypatch, user=1000)
    assert "you are root" not in capsys.readouterr().err


def test_without_a_history_it_says_how_to_get_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Before the browser shows an error, the terminal has said what is missing; with a history it says nothing."""
    store = tmp_path / "traffic.duckdb"
    monkeypatch.setattr(main, "DEFAULT_STORE", store)
    _started(monkeypatch, user=1000)
    assert "`enforcement sample` makes one up" in capsys.readouterr().err
    store.touch()
    _started(monkeypatch, user=1000)
    assert "no mail history" not in capsys.readouterr().err


def test_nobody_is_asked_about_news(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped settings reach JupyterLab, beside those of one's own path."""
    _started(monkeypatch, user=1000)
    assert os.environ["JUPYTER_CONFIG_PATH"] == f"{shipped.DATA / 'lab'}{os.pathsep}/mine"
    done = subprocess.run([sys.executable, "-c", READ], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)["@jupyterlab/apputils-extension:notification"]
    assert told == {"fetchNews": "false", "checkForUpdates": False}
