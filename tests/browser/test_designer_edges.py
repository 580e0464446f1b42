"""The designer where it is tight or goes wrong: narrow stages, files that are gone or none, and what axe finds."""

from itertools import combinations
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from lab import Lab

SERIOUS = ("serious", "critical")


@pytest.fixture(autouse=True)
def clean(lab: Lab) -> None:
    """Each test begins with the policy as it is saved, without a message."""
    lab.undo_all()


def _message(lab: Lab) -> str:
    message = lab.root.locator(".message")
    return message.inner_text() if message.is_visible() else ""


def _load(lab: Lab, what: str) -> None:
    lab.root.get_by_placeholder("a shipped name or a path").fill(what)
    lab.root.locator(".load button").click()
    lab.settled()


def _narrow(lab: Lab) -> None:
    """Make one stage long, so that the others are a few pixels wide each."""
    lab.root.locator("details:has(.stages)").evaluate("details => { details.open = true; }")
    for number in range(1, 8):
        lab.root.get_by_role("spinbutton", name=f"days of stage {number}").fill("300" if number == 1 else "2")
    lab.settled()


def test_it_comes_into_sight_and_nobody_asks_for_anything(lab: Lab) -> None:
    """JupyterLab goes to the last cell when it runs all; the designer comes up by itself, and no news is offered."""
    assert lab.comes_into_sight
    assert lab.page.locator(".Toastify button").count() == 0


def test_names_and_values_stand_beside_each_other_in_the_notebook(lab: Lab) -> None:
    """Long names of pairs push nothing aside: each value begins at the height of its name, to its right."""
    lab.page.wait_for_selector("dl.pairs dd", state="attached")
    wrong = lab.page.evaluate(
        """() => [...document.querySelectorAll('dl.pairs dt')].filter(dt => {
          const [name, value] = [dt.getBoundingClientRect(), dt.nextElementSibling.getBoundingClientRect()];
          return name.height && (Math.abs(name.top - value.top) > 3 || value.left < name.right - 1);
        }).map(dt => dt.textContent)"""
    )
    assert wrong == []


def test_no_label_lies_on_another_in_narrow_stages(lab: Lab) -> None:
    """Names of phases, days and the axis keep apart, however narrow the stages are."""
    _narrow(lab)
    lab.shot("narrow")
    boxes = lab.root.locator(".strip text").evaluate_all(
        """texts => texts.filter(text => text.textContent && text.getAttribute('visibility') !== 'hidden').map(text => {
          const { left, right, top, bottom } = text.getBoundingClientRect();
          return [text.textContent, left, right, top + 2, bottom - 2];
        })"""
    )
    assert {"report", "throttle", "block all"} <= {box[0] for box in boxes}
    overlaps = [
        (a[0], b[0]) for a, b in combinations(boxes, 2) if a[1] < b[2] and b[1] < a[2] and a[3] < b[4] and b[3] < a[4]
    ]
    assert overlaps == []


def test_deleting_the_last_stage_says_what_became_of_the_one_before(lab: Lab) -> None:
    """The last stage has no end: the one before loses its own, which is said; the only stage stays, and why is said."""
    lab.handle("block-7").focus()
    lab.page.keyboard.press("Delete")
    lab.settled()
    assert _message(lab) == "Stage 8 is gone; stage 7 is the last now, and the last stage has no end."
    for last in range(6, -1, -1):
        lab.handle(f"block-{last}").focus()
        lab.page.keyboard.press("Delete")
        lab.settled()
    assert "the only stage cannot be deleted" in _message(lab)


def test_what_has_no_field_is_shown(lab: Lab) -> None:
    """Guardrails, routes and the rest stand as text, with where to change them; nobody thinks them gone."""
    told = lab.root.locator("table.beside").inner_text()
    assert "guardrail 2" in told
    assert "lost share of mail at most 90 % per tenant" in told
    assert "direct, relayed, through cloud" in told
    assert "mine.toml in any editor, and load it again" in lab.root.locator(".left").inner_text()


def test_a_file_that_is_gone_is_not_made_anew_without_asking(lab: Lab, folder: Path) -> None:
    """Deleted since it was read, perhaps on purpose: cancelled, there is none; told to, it is written."""
    path = folder / "mine.toml"
    before = path.read_text(encoding="utf-8")
    path.unlink()
    lab.button("Save").click()
    lab.settled()
    assert "is gone: it was deleted or moved after it was read here" in _message(lab)
    lab.shot("gone")
    lab.root.locator(".message button", has_text="Cancel").click()
    assert not path.exists()
    lab.button("Save").click()
    lab.settled()
    lab.root.locator(".message button", has_text="Make it anew").click()
    lab.page.wait_for_selector(".enf-designer .hit table", timeout=60_000)
    lab.settled()
    assert path.read_text(encoding="utf-8") == before
    told = _message(lab)
    assert f"Saved to {path}. Replayed" in told
    assert f"Its page: enforcement report 02_policy -p policy {path} --store {folder / 'traffic.duckdb'}" in told


def test_the_file_follows_the_name_until_a_path_is_typed(lab: Lab) -> None:
    """A shipped policy is never the file; renamed, it is suggested under its new name."""
    _load(lab, "gentler")
    field = lab.root.get_by_label("file to save to")
    assert field.input_value() == "policies/gentler.toml"
    lab.root.locator("input.name").fill("softer")
    lab.settled()
    assert field.input_value() == "policies/softer.toml"
    field.fill("policies/own.toml")
    lab.root.locator("input.name").fill("softest")
    lab.settled()
    assert field.input_value() == "policies/own.toml"
    lab.undo_all()


def test_what_is_no_policy_is_told_in_a_line(lab: Lab, folder: Path) -> None:
    """A folder, other text, other letters: the line names it, and what is shown stays."""
    (folder / "text.toml").write_text("hello world\n", encoding="utf-8")
    (folder / "wide.toml").write_bytes('name = "x"'.encode("utf-16"))
    for what, told in (
        (str(folder), "is a folder (expected the path of a TOML file in it)"),
        (str(folder / "text.toml"), "text.toml: line 1, column 7: not TOML"),
        (str(folder / "wide.toml"), "wide.toml: not UTF-8 text: invalid start byte at byte 0 (save it as UTF-8)"),
        ("~nobody-here/x.toml", "nobody here has that name"),
        ("x" * 5000, "no policy 'xxx"),
    ):
        _load(lab, what)
        assert told in _message(lab)
        assert "\n" not in _message(lab)
    assert lab.root.locator(".strip .stage").count() == 8
    _load(lab, str(folder / "mine.toml"))


def _findings(lab: Lab) -> list[str]:
    found = Axe().run(lab.page, ".enf-designer").response["violations"]
    return [
        f"{each['id']} ({each['impact']}): {[node['html'][:160] for node in each['nodes']][:4]}"
        for each in found
        if each["impact"] in SERIOUS
    ]


def test_axe_finds_nothing_serious_in_it(lab: Lab) -> None:
    """As it opens; not valid, with everything unfolded; and with a question to answer."""
    assert _findings(lab) == []
    lab.root.evaluate("root => root.querySelectorAll('details').forEach(each => { each.open = true; })")
    lab.root.get_by_label("when of rule 2").fill("produkt = 1")
    lab.root.get_by_role("spinbutton", name="minutes blocked in stage 7").fill("59")
    lab.settled()
    assert _findings(lab) == []
    _load(lab, "gentler")
    assert "changes not saved" in _message(lab)
    assert _findings(lab) == []
    lab.root.locator(".message button", has_text="Cancel").click()


def test_axe_would_find_a_barrier_in_it(lab: Lab) -> None:
    """The check can fail: a field without a name, within the widget, is found."""
    lab.root.evaluate("root => root.insertAdjacentHTML('beforeend', '<input type=\"text\" class=\"spoil\">')")
    assert [finding.split()[0] for finding in _findings(lab)] == ["label"]
    lab.root.evaluate("root => root.querySelector('.spoil').remove()")
