"""The designer's state: edits and undo, the author's text kept, what it shows, and files never written over unasked."""

import json
import re
import tomllib
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import GUARDRAILS, hostile_policy, own_policy, small_store

from enforcement import designer_files, designer_session, shipped
from enforcement.charts_theme import MIME
from enforcement.designer import Draft, Edit, applied, begun, read_edit, stage_deleted, stage_inserted
from enforcement.designer_files import ChangedError, find, place, read, suggested, write
from enforcement.designer_session import Session
from enforcement.designer_text import text_of
from enforcement.designer_view import Ground, guardrails, outcome, picture
from enforcement.designer_widget import Designer
from enforcement.policy_text import parse_policy
from enforcement.workbench import Setting, check_policy, exposed_to, replay_policies

# Headings of their own for everything, comments wherever comments can stand.
HEADED = """\
# top
schema_version = 1 # version
name = "headed" # name

# above the rules
[[rules]] # one
name = "unpatched"
since = "missing_since" # since
after_days = 90

# above the second rule
[[rules]] # two
name = "unsupported"
since = "unsupported_since"
# between rules and cohorts

[[cohorts]]
name = "all" # cohort
starts_on = 2000-01-01
# above the stages
[[stages]] # first
days = 30
[[stages]] # second
days = 10
throttle = 20 # minutes

# above the last
[[stages]]
block = 60 # all

[pause] # quota
days_per_year = 30
# above the guardrails
[[guardrails]]
measure = "lost_share_of_mail"
per = "day"
at_most = 0.02
min_messages = 10
# the end
"""
TEXTS = [
    *(shipped.read_text(shipped.policy_file(name)) for name in shipped.shipped_policies()),
    HEADED,
    HEADED.replace("\n", "\r\n"),
    "\ufeff" + shipped.read_text(shipped.policy_file("gentler")),
]
WHOLE_LINE = re.compile(r"^[ \t]*(#.*?)\r?$", re.MULTILINE)


def _comments(text: str) -> list[str]:
    """List the comments of TOML that has no # in its strings."""
    return [found.rstrip("\r") for found in re.findall(r"#[^\n]*", text)]


@st.composite
def _edit(draw: st.DrawFn, data: dict[str, Any], kinds: str) -> list[Edit]:
    """Draw what a person may do to a policy next, mindful of its rules or not."""
    n = {key: len(data[key]) for key in ("stages", "rules", "cohorts")}
    at = {key: draw(st.integers(0, most - 1)) for key, most in n.items()}
    minutes = st.integers(0, 60).map(lambda value: value or None)
    condition = st.none() | st.sampled_from(["product = 'Exchange Server 2016'", 'kind <> "SU"', "hop = 'smtp\\' \n"])
    free = st.text(st.characters(codec="utf-8", exclude_characters="#"), max_size=20)
    choices: dict[str, st.SearchStrategy[list[Edit]]] = {
        "days": st.integers(1, 400).map(lambda v: [Edit(kind="set", place=("stages", at["stages"], "days"), value=v)]),
        "throttle": minutes.map(lambda v: [Edit(kind="set", place=("stages", at["stages"], "throttle"), value=v)]),
        "block": minutes.map(lambda v: [Edit(kind="set", place=("stages", at["stages"], "block"), value=v)]),
        "when": condition.map(lambda v: [Edit(kind="set", place=("rules", at["rules"], "when"), value=v)]),
        "name": free.map(lambda v: [Edit(kind="set", place=("rules", at["rules"], "name"), value=v)]),
        "title": free.map(lambda v: [Edit(kind="set", place=("title",), value=v or None)]),
        "starts": st.dates(date(1970, 1, 1)).map(
            lambda v: [Edit(kind="set", place=("cohorts", at["cohorts"], "starts_on"), value=v)]
        ),
        "tenants": st.lists(st.sampled_from(["a.example", "b.example"]), unique=True).map(
            lambda v: [Edit(kind="set", place=("cohorts", at["cohorts"], "tenants"), value=v or None)]
        ),
        "window": st.sampled_from(["spread", "top of the hour"]).map(
            lambda v: [Edit(kind="set", place=("window",), value=v)]
        ),
        "pause": st.integers(0, 366).map(lambda v: [Edit(kind="set", place=("pause", "days_per_year"), value=v)]),
        "insert stage": st.just(stage_inserted(data, at["stages"])),
        "insert rule": st.integers(0, n["rules"]).map(
            lambda v: [
                Edit(
                    kind="insert",
                    place=("rules", v),
                    value={"name": f"new {v}", "since": "missing_since", "after_days": 9},
                )
            ]
        ),
    }  # fmt: skip
    if "delete" in kinds:
        for key in ("rules", "cohorts", "stages"):
            if n[key] > 1:
                gone = stage_deleted(data, at[key]) if key == "stages" else [Edit(kind="delete", place=(key, at[key]))]
                choices[f"delete {key}"] = st.just(gone)
    edits: list[Edit] = draw(st.one_of(*choices.values()))
    return edits


def _drawn(data: st.DataObject, draft: Draft, kinds: str) -> Draft:
    for _ in range(data.draw(st.integers(1, 6))):
        draft = draft.edited(data.draw(_edit(draft.data, kinds)))
    return draft


@settings(max_examples=50, deadline=None)
@given(data=st.data(), text=st.sampled_from(TEXTS))
def test_edits_undone_give_back_what_was_there_and_redone_what_came(data: st.DataObject, text: str) -> None:
    """Back to the first step and forth again: the same data, the same text, to the letter."""
    begin = begun(text)
    draft = _drawn(data, begin, "delete")
    back = draft
    while back.steps:
        back = back.undo()
    assert back.data == begin.data
    assert text_of(back) == text
    assert not back.is_changed
    again = back
    while again.undone:
        again = again.redo()
    assert again.data == draft.data
    assert text_of(again) == text_of(draft)


@settings(max_examples=70, deadline=None)
@given(data=st.data(), text=st.sampled_from(TEXTS))
def test_what_is_written_says_what_was_drawn_and_keeps_the_comments(data: st.DataObject, text: str) -> None:
    """Every text reads back as the draft, valid or not, with all comments in their order; a valid one passes check."""
    draft = _drawn(data, begun(text), "")
    written = text_of(draft)
    assert tomllib.loads(written.removeprefix("\ufeff")) == draft.data
    assert _comments(written) == _comments(text)
    if draft.policy is not None:
        assert parse_policy(written, source="x.toml") == draft.policy


@settings(max_examples=50, deadline=None)
@given(data=st.data(), text=st.sampled_from(TEXTS))
def test_comments_in_lines_of_their_own_outlive_what_is_deleted(data: st.DataObject, text: str) -> None:
    """Only what stands at the end of the line of a thing that is deleted goes with it."""
    written = text_of(_drawn(data, begun(text), "delete"))
    assert sorted(WHOLE_LINE.findall(written)) == sorted(WHOLE_LINE.findall(text))


def test_lines_that_are_not_edited_stay_to_the_letter() -> None:
    """One number changes in one line; dates, columns and quotes elsewhere are as their author set them."""
    text = shipped.read_text(shipped.policy_file("exchange-online"))
    draft = begun(text).edited([Edit(kind="set", place=("cohorts", 0, "starts_on"), value=date(2023, 9, 1))])
    changed = [(a, b) for a, b in zip(text.splitlines(), text_of(draft).splitlines(), strict=True) if a != b]
    assert [b for _, b in changed] == [a.replace("2023-08-01", "2023-09-01") for a, _ in changed]
    assert len(changed) == 1


def test_a_drag_is_one_step() -> None:
    """Edits of one gesture are undone together, those of the next one by themselves."""
    draft = begun(HEADED)
    for days in (31, 32, 33):
        draft = draft.edited([Edit(kind="set", place=("stages", 0, "days"), value=days)], gesture="drag 1")
    draft = draft.edited([Edit(kind="set", place=("stages", 0, "days"), value=40)], gesture="drag 2")
    assert draft.undo().data["stages"][0]["days"] == 33
    assert draft.undo().undo().data["stages"][0]["days"] == 30
    assert not draft.undo().undo().steps


def test_what_is_not_valid_is_told_where_it_is() -> None:
    """Each problem leads to its field, by keys and indices."""
    draft = begun(HEADED).edited([Edit(kind="set", place=("stages", 1, "block"), value=50)])
    draft = draft.edited([Edit(kind="set", place=("rules", 0, "when"), value="kind =")])
    assert [problem.place for problem in draft.problems] == [("rules", 0, "when"), ("stages", 1)]
    assert draft.policy is None


STEPS = ["stages", "rules", "when", "days", "__class__", "pause", 0, 7, -1]
NAMES = st.text(max_size=5)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)


@settings(max_examples=100, deadline=None)
@given(
    kind=st.sampled_from(["set", "insert", "delete", "x", None]),
    where=st.lists(st.sampled_from(STEPS), max_size=4) | st.none(),
    value=st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2)),
)
def test_whatever_a_browser_says_is_an_edit_or_an_error(kind: object, where: object, value: object) -> None:
    """No wish breaks the draft: it is refused in words, or it is data of which what is wrong is told."""
    draft = begun(HEADED)
    try:
        draft = draft.edited([read_edit({"kind": kind, "place": where, "value": value})])
    except (ValueError, LookupError):
        return
    assert draft.policy is not None or draft.problems


def test_a_place_that_is_none_is_refused() -> None:
    """Beyond a list, or into a value that holds nothing."""
    data = begun(HEADED).data
    for where in (("stages", 9, "days"), ("stages", -1), ("name", "x"), ("stages", "x")):
        with pytest.raises(LookupError, match="no such place"):
            applied(data, Edit(kind="set", place=where, value=1))


# Files


def test_a_file_that_others_changed_is_not_written_over(tmp_path: Path) -> None:
    """Changed since it was read, or there though nobody read it: an error that has the hash by which to insist."""
    path = tmp_path / "mine.toml"
    path.write_text(HEADED, encoding="utf-8")
    text, known = read(path)
    draft = begun(text).edited([Edit(kind="set", place=("stages", 0, "days"), value=20)])
    path.write_text(HEADED + "# theirs\n", encoding="utf-8")
    for by in (known, None):
        with pytest.raises(ChangedError, match="nothing was written") as told:
            write(draft, path, known=by)
    assert path.read_text(encoding="utf-8").endswith("# theirs\n")
    path.write_text(HEADED + "# again\n", encoding="utf-8")
    with pytest.raises(ChangedError):
        write(draft, path, known=known, over=told.value.sha256)
    path.write_text(HEADED + "# theirs\n", encoding="utf-8")
    now = write(draft, path, known=known, over=told.value.sha256)
    assert path.read_text(encoding="utf-8") == HEADED.replace("30", "20", 1)
    assert read(path)[1] == now
    assert [each.name for each in tmp_path.iterdir()] == ["mine.toml"]


def test_a_file_that_was_deleted_is_made_anew_only_when_told(tmp_path: Path) -> None:
    """Gone since it was read: asked; what another put there meanwhile is asked about again."""
    path = tmp_path / "mine.toml"
    path.write_text(HEADED, encoding="utf-8")
    text, known = read(path)
    draft = begun(text)
    path.unlink()
    with pytest.raises(ChangedError, match="is gone: it was deleted or moved") as told:
        write(draft, path, known=known)
    assert not path.exists()
    path.write_text("# theirs\n", encoding="utf-8")
    with pytest.raises(ChangedError, match="was changed on disk"):
        write(draft, path, known=known, over=told.value.sha256)
    path.unlink()
    write(draft, path, known=known, over=told.value.sha256)
    assert path.read_text(encoding="utf-8") == HEADED


def test_a_path_is_loaded_as_it_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the project's folder, wherever the notebook runs; a shipped name is that of the shipped policy."""
    monkeypatch.setattr(designer_files, "PROJECT", tmp_path)
    (tmp_path / "policies").mkdir()
    (tmp_path / "elsewhere").mkdir()
    own = tmp_path / "policies" / "mine.toml"
    own.write_text(HEADED, encoding="utf-8")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert find("policies/mine.toml") == own == place("policies/mine.toml")
    (tmp_path / "gentler").mkdir()
    assert find("gentler") == shipped.policy_file("gentler")
    (tmp_path / "elsewhere" / "here.toml").write_text(HEADED, encoding="utf-8")
    assert find("here.toml") == Path("here.toml")
    for name, told in (("policies", "is a folder"), ("~nobody-here/x.toml", "nobody here"), ("x" * 5000, "no policy")):
        with pytest.raises((LookupError, ValueError), match=told):
            find(name)


def test_a_notebook_takes_the_path_that_the_designer_saved_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Notebooks run in a folder of their own; a path from the project's folder is found from there too."""
    monkeypatch.chdir(shipped.DATA)
    assert shipped.load_policy("data/policies/gentler.toml").name == "gentler"


def test_a_written_file_keeps_its_rights_its_link_and_its_line_ends(tmp_path: Path) -> None:
    """What a link points to is written; who may read it stays; Windows' line ends stay."""
    path, link = tmp_path / "real.toml", tmp_path / "link.toml"
    path.write_bytes(HEADED.replace("\n", "\r\n").encode())
    path.chmod(0o640)
    link.symlink_to(path)
    text, known = read(link)
    draft = begun(text).edited([Edit(kind="insert", place=("rules", 2), value={"name": "x", "since": "missing_since"})])
    write(draft, place(str(link)), known=known)
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o640
    content = path.read_bytes()
    assert content.count(b"\n") == content.count(b"\r\n") > HEADED.count("\n")
    assert check_policy(str(path), date(2026, 11, 24)) is not None


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("", "no path to save to"),
        ("a\0b.toml", "no path to save to"),
        ("mine.txt", "expected a name that ends in .toml"),
        (str(shipped.DATA / "policies" / "gentler.toml"), "is a shipped policy"),
        ("no/such/folder/mine.toml", "no folder"),
    ],
)
def test_where_nothing_can_be_saved(name: str, told: str) -> None:
    """A path that is none, that is somebody else's, or that leads nowhere is told in a line."""
    with pytest.raises(ValueError, match=told):
        place(name)


def test_a_shipped_policy_is_saved_under_a_path_of_ones_own() -> None:
    """What is suggested lies elsewhere, whatever the policy is called."""
    assert suggested(shipped.policy_file("gentler"), "gentler") == "policies/gentler.toml"
    assert suggested(shipped.policy_file("gentler"), "../../etc/x") == "policies/....etcx.toml"


def test_what_is_not_valid_cannot_be_saved(tmp_path: Path) -> None:
    """There is no file afterwards."""
    draft = begun(HEADED).edited([Edit(kind="set", place=("stages", 0, "days"), value=500)])
    with pytest.raises(ValueError, match=r"not saved: stages\[0\].days = 500"):
        write(draft, tmp_path / "x.toml", known=None)
    assert not list(tmp_path.iterdir())


# On a history


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    return Setting(store=small_store(tmp_path_factory.mktemp("designer") / "traffic.duckdb"))


@pytest.mark.parametrize("name", ["ninety-days", "exchange-online", "block-only", "spread-windows"])
def test_the_picture_says_what_a_replay_says(name: str, setting: Setting, tmp_path: Path) -> None:
    """By day, by tenth of tenants, in total, and each guardrail that needs no tenants: the same numbers."""
    path = own_policy(tmp_path, guardrail=GUARDRAILS)
    rails = shipped.load_policy(str(path)).guardrails
    policy = shipped.load_policy(name).model_copy(update={"guardrails": rails})
    (found,) = replay_policies([policy], setting)
    ground = Ground.of(exposed_to(policy, setting), setting.background().senders)
    of = outcome(ground, policy)
    for measure, column in (("delayed", "delayed"), ("lost", "lost"), ("risk_left", "accepted_vulnerable")):
        by_day = dict(found.by_day.select("day", column).iter_rows())
        assert np.allclose(of.measures[measure], [by_day.get(day, 0.0) for day in ground.days])
    shown = picture(ground, of)
    by_decile = found.by_group.group_by("decile").agg(pl.col("lost", "read").sum()).sort("decile")
    assert shown["deciles"]["lost"] == pytest.approx((by_decile["lost"] / by_decile["read"]).to_list(), abs=1e-6)
    assert shown["totals"]["lost"] == pytest.approx(found.totals["lost"])
    for ours, theirs in zip(guardrails(ground, of), found.guardrails.to_dicts(), strict=True):
        if theirs["per"] == "tenant":
            assert ours["state"] == "computed on save"
        else:
            assert ours == pytest.approx(theirs)


@pytest.fixture
def session(setting: Setting, tmp_path: Path) -> Session:
    return Session(setting=setting, asked=str(own_policy(tmp_path, guardrail=GUARDRAILS)))


def _set(*where: str | int, value: object) -> dict[str, Any]:
    return {"do": "edit", "edits": [{"kind": "set", "place": [*where], "value": value}]}


def _refuses(*_: object, **__: object) -> None:
    pytest.fail("the history was read")


def test_a_new_schedule_reads_no_traffic(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once counted, stages are judged without the history; other rules too, until they are counted."""
    opened = session.wished({"do": "open"})
    for door in ("exposed_to", "opened_history", "replay_policies"):
        monkeypatch.setattr(designer_session, door, _refuses)
    told = session.wished(_set("stages", 2, "throttle", value=40))
    assert told["picture"]["totals"]["delayed"] > opened["picture"]["totals"]["delayed"]
    assert not told["stale"]
    told = session.wished(_set("window", value="spread"))
    assert told["stale"]
    assert not session.wished({"do": "undo"})["stale"]


def test_other_rules_are_counted_when_asked_and_undo_finds_the_old_count(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted rules give the picture that a replay gives; taken back, nothing is read again."""
    opened = session.wished({"do": "open"})
    session.wished(_set("rules", 1, "when", value="product = 'Exchange Server 2016'"))
    counted = session.wished({"do": "count"})
    assert not counted["stale"]
    assert counted["picture"]["totals"]["risk_left"] < opened["picture"]["totals"]["risk_left"]
    monkeypatch.setattr(designer_session, "exposed_to", _refuses)
    back = session.wished({"do": "undo"})
    assert not back["stale"]
    assert back["picture"] == opened["picture"]


def test_a_rule_says_what_it_catches(session: Session) -> None:
    """Fewer builds by a condition; what all rules let go against the saved policy is named; an error keeps the rest."""
    opened = session.wished({"do": "open"})["rules"]
    assert opened["moved"]["gained"]["builds"] == opened["moved"]["let_go"]["builds"] == 0
    session.wished({"do": "focus", "rule": 1})
    told = session.wished(_set("rules", 1, "when", value="product = 'Exchange Server SE'"))["rules"]
    assert 0 < told["each"][1]["messages"] < opened["each"][1]["messages"]
    assert {row["update"][:18] for row in told["caught"]["top_builds"]} == {"Exchange Server SE"}
    told = session.wished(_set("rules", 1, "after_days", value="3660"))
    assert told["rules"]["moved"]["let_go"]["messages"] > 0
    told = session.wished(_set("rules", 1, "when", value="no such"))
    assert [each["place"] for each in told["problems"]] == [["rules", 1, "when"]]
    assert "picture" not in told


def test_the_year_to_come_follows_the_stages(session: Session) -> None:
    """With people's response: shares of each week's mail, beside the baseline under which nothing is lost."""
    session.wished({"do": "open"})
    told = session.wished({"do": "expected", "on": True})
    assert told["ahead_baseline"]["totals"]["lost"] == 0
    assert told["ahead"]["totals"]["lost"] > 0
    softer = session.wished(_set("stages", 7, "block", value=10))
    assert softer["ahead"]["totals"]["lost"] < told["ahead"]["totals"]["lost"]
    assert len(told["ahead"]["days"]) == len(told["ahead"]["by_day"]["lost"]) == len(told["ahead"]["servers"])


def test_saved_replayed_exported(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is needed for what others read; saved, the draft is as it was, can still be undone, and is exported."""
    monkeypatch.setattr(designer_files, "PROJECT", tmp_path)
    path = tmp_path / "mine.toml"
    session.wished({"do": "open"})
    session.wished(_set("stages", 0, "days", value=33))
    for wish in ("replay", "export"):
        with pytest.raises(ValueError, match="changes not saved"):
            session.wished({"do": wish})
    told = session.wished({"do": "save", "path": "mine.toml"})
    assert told["saved"] == str(path)
    assert not told["changed"]
    assert shipped.load_policy(str(path)).stages[0].days == 33
    hit = session.wished({"do": "replay"})["replayed"]
    assert {rail["per"] for rail in hit["guardrails"]} == {"total", "tenant"}
    assert hit["tenants"] >= hit["lost"] >= hit["over_a_tenth"]
    out = session.wished({"do": "export"})["exported"]
    assert json.loads((Path(out["folder"]) / "manifest.json").read_text(encoding="utf-8"))["policy"] == "mine"
    assert session.wished({"do": "undo"})["changed"]


def test_changes_are_not_lost_without_asking(session: Session, tmp_path: Path) -> None:
    """Another policy is loaded when nothing is lost by it, or when told to; a changed file is asked about."""
    session.wished({"do": "open"})
    session.wished(_set("stages", 0, "days", value=33))
    asked = session.wished({"do": "load", "policy": "gentler"})
    assert asked["ask"]["what"] == "load"
    assert asked["policy"]["name"] == "mine"
    (tmp_path / "mine.toml").write_text(HEADED, encoding="utf-8")
    asked = session.wished({"do": "save", "path": str(tmp_path / "mine.toml")})
    assert "was changed on disk" in asked["ask"]["message"]
    told = session.wished({"do": "save", "path": str(tmp_path / "mine.toml"), "over": asked["ask"]["over"]})
    assert told["saved"]
    assert session.wished({"do": "load", "policy": "gentler"})["policy"]["name"] == "gentler"


def test_a_file_that_is_not_valid_can_be_mended(setting: Setting, tmp_path: Path) -> None:
    """It opens with what is wrong with it; once that is mended, there is a picture."""
    path = tmp_path / "wrong.toml"
    path.write_text(HEADED.replace("block = 60", "block = 61"), encoding="utf-8")
    session = Session(setting=setting, asked=str(path))
    told = session.wished({"do": "open"})
    assert [each["place"] for each in told["problems"]] == [["stages", 2, "block"]]
    assert "picture" not in told
    told = session.wished(_set("stages", 2, "block", value="60"))
    assert told["picture"]["totals"]["lost"] > 0
    assert told["baseline"]["name"] == "none"


def test_a_baseline_is_what_it_is_held_against(session: Session) -> None:
    """Another policy as the baseline says what a risk is; one that is not there is told."""
    session.wished({"do": "open"})
    session.wished(_set("baseline", value="stricter"))
    told = session.wished({"do": "count"})
    assert told["baseline"]["name"] == "stricter"
    assert told["baseline"]["totals"]["lost"] > told["picture"]["totals"]["lost"]
    assert session.wished({"do": "undo"})["baseline"]["name"] == "none"
    session.wished(_set("baseline", value="no-such"))
    assert "no policy 'no-such'" in session.wished({"do": "count"})["baseline_problem"]


def test_the_widget_answers_in_words_and_shows_a_picture_elsewhere(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An impossible wish is an error in the answer; a front end without widgets finds the chart in the same output."""

    class Still:
        def _repr_mimebundle_(self, **_: object) -> dict[str, object]:
            return {MIME: {"mark": "bar"}, "text/plain": "<chart>"}

    shown = Designer(str(hostile_policy(tmp_path)), setting, still=Still())
    bundle = shown._repr_mimebundle_()
    assert bundle[MIME] == {"mark": "bar"}
    assert bundle["text/plain"] == "<chart>"
    assert "application/vnd.jupyter.widget-view+json" in bundle
    widget = shown._widget
    assert widget is not None
    wishes: list[dict[str, Any]] = [
        {"do": "fly"}, {}, {"do": "stage", "act": "delete", "at": 99}, {"do": "load", "policy": "no-such"},
        {"do": "save", "path": "/no/such/place.toml"},
        {"do": "edit", "edits": [{"kind": "set", "place": ["x"], "value": 1}]},
    ]  # fmt: skip
    for wish in wishes:
        answer = widget.answer(wish | {"seq": 7, "from": "me"})
        assert answer["error"]
        assert "fault of this program" not in answer["error"]
        assert (answer["re"], answer["from"]) == (7, "me")
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    monkeypatch.setattr(Session, "wished", lambda *_: (tmp_path / "file" / "x").read_text())
    assert widget.answer({"do": "open"})["error"] == f"{tmp_path / 'file' / 'x'}: Not a directory"
    monkeypatch.setattr(Session, "wished", lambda *_: 1 / 0)
    assert "fault of this program: ZeroDivisionError" in widget.answer({"do": "open"})["error"]
