"""What ships for timers: units that systemd takes, a line that cron takes, commands that exist."""

import ast
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import absent
from test_readme import ROOT
from worlds import run

from enforcement.report_parameters import MODELS

FOLDER = ROOT / "data" / "schedule"
UNITS = ("enforcement-weekly.service", "enforcement-weekly.timer")


def _settings(unit: str) -> dict[str, str]:
    lines = (FOLDER / unit).read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if re.match(r"[A-Z]\w+=", line))


@pytest.mark.parametrize("spoiled", [False, True])
def test_systemd_takes_the_units(spoiled: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a parameter of the test
    """`systemd-analyze verify` has nothing to say of them, and does of units that are wrong."""
    if not shutil.which("systemd-analyze"):
        absent("no systemd-analyze (Debian's package systemd)")
    program = _settings(UNITS[0])["ExecStart"].split()[0]
    for unit in UNITS:
        text = (
            (FOLDER / unit).read_text(encoding="utf-8").replace(program, "/bin/true")
        )  # verify wants one that is there
        text = re.sub(r"^(OnCalendar|MemoryMax)=.*", r"\1=sometimes", text, flags=re.MULTILINE) if spoiled else text
        (tmp_path / unit).write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / unit) for unit in UNITS)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "enforcement-weekly" in line]
    assert bool(ours) == spoiled, done.stderr
    assert spoiled or done.returncode == 0, done.stderr


def test_when_the_timer_rings() -> None:
    """Once a week."""
    if not shutil.which("systemd-analyze"):
        absent("no systemd-analyze (Debian's package systemd)")
    done = subprocess.run(
        ["systemd-analyze", "calendar", "--iterations=3", _settings(UNITS[1])["OnCalendar"]],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert re.findall(r"(?:Next elapse|Iteration #\d|Iter\. #\d): (\w{3}) ", done.stdout) == ["Mon"] * 3, done.stdout


def test_every_schedule_runs_the_same_command() -> None:
    """Unit, crontab line and page ask for the same report, and the command takes it."""
    words = shlex.split(_settings(UNITS[0])["ExecStart"])[1:]
    assert words == ["report", "weekly", "--as-of", "yesterday", "--keep", "60"]
    for name in ("crontab", "README.md"):
        assert "enforcement " + shlex.join(words) in (FOLDER / name).read_text(encoding="utf-8")
    helped = run("report", "--help").stdout
    assert all(word in helped for word in words if word.startswith("--"))


def test_the_line_of_cron_has_its_fields() -> None:
    """Five fields of time, then a command; no percent sign, which cron takes for a line end."""
    (line,) = (
        line for line in (FOLDER / "crontab").read_text(encoding="utf-8").splitlines() if re.match(r"[\d*]", line)
    )
    assert re.match(r"30 5 \* \* 1 +cd ", line)
    assert "%" not in line


def test_the_operator_gives_parameters_that_the_notebook_has() -> None:
    """The example of Airflow is Python, and names parameters, kernel and notebook that there are."""
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    calls = {
        ast.unparse(node.func): {word.arg: word.value for word in node.keywords}
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Call)
    }
    operator = calls["PapermillOperator"]
    parameters = operator["parameters"]
    assert isinstance(parameters, ast.Dict)
    assert {ast.literal_eval(key) for key in parameters.keys if key} <= set(MODELS["weekly"].model_fields)
    assert (ROOT / "notebooks" / Path(ast.literal_eval(operator["input_nb"])).name).is_file()
    assert ast.literal_eval(operator["kernel_name"]) == "python3"
