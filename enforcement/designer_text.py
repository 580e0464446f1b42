"""The text of a policy after edits: what the author wrote stays as it was, comments and layout too."""

import tomllib
from collections.abc import Sequence
from typing import Any

import tomlkit
from tomlkit import TOMLDocument
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT, Array, Comment, Date, InlineTable, Item, Null, Table, Trivia, Whitespace

from enforcement.designer import Draft, Edit
from enforcement.policy_problems import Place

_PROBLEMS = (TOMLKitError, ValueError, LookupError, TypeError, AttributeError)


def text_of(draft: Draft) -> str:
    r"""Write a draft as TOML: the author's file with the edits in it.

    Comments stay; one at the end of the line of a stage, rule or cohort that is deleted goes with it.

    >>> from enforcement.designer import begun
    >>> draft = begun("stages = [ # mine\n  { days = 30 }, # report\n  { block = 60 },\n]\n")
    >>> print(text_of(draft.edited([Edit(kind="set", place=("stages", 0, "days"), value=20)])), end="")
    stages = [ # mine
      { days = 20 }, # report
      { block = 60 },
    ]
    """
    mark = "\ufeff" if draft.text.startswith("\ufeff") else ""
    text = draft.text.removeprefix(mark)
    has_returns = "\r\n" in text and "\n" not in text.replace("\r\n", "")
    if has_returns:
        text = text.replace("\r\n", "\n")
    text = _edited(text, draft.edits)
    if tomllib.loads(text) != draft.data:
        raise ValueError("a fault of this program: the edits cannot be written into the file (nothing was written)")
    return mark + (text.replace("\n", "\r\n") if has_returns else text)


def _edited(text: str, edits: Sequence[Edit]) -> str:
    document = _parsed(text)
    for edit in edits:
        try:
            _edit(document, edit)
            if edit.kind != "set":  # what stands around a list moves: everything is found anew
                document = _parsed(document.as_string())
        except _PROBLEMS as problem:
            where = ".".join(map(str, edit.place))
            raise ValueError(
                f"a fault of this program: {where} cannot be written into the file: {problem} (nothing was written)"
            ) from problem
    return document.as_string()


def _parsed(text: str) -> TOMLDocument:
    """Parse a document; tomlkit reads the space between a date and the end of a line's table but does not write it."""
    document = tomlkit.parse(text)
    _keep_spaces(document)
    return document


def _keep_spaces(node: Any) -> None:  # noqa: ANN401 - any part of a document
    """Make the space behind a date within a table or a list in one line part of the date."""
    if isinstance(node, InlineTable | Array):
        items = node.values() if isinstance(node, InlineTable) else list(node)
        for item in items:
            if isinstance(item, Date):
                item._raw += item.trivia.comment_ws  # noqa: SLF001 - there is no other door for it
    if isinstance(node, TOMLDocument | Table | InlineTable):
        for inside in node.values():
            _keep_spaces(inside)
    elif isinstance(node, AoT | Array):
        for inside in node:
            _keep_spaces(inside)


def _edit(document: Any, edit: Edit) -> None:  # noqa: ANN401 - tomlkit's containers have no common type
    *way, last = edit.place
    node = document
    for depth, part in enumerate(way):
        if isinstance(part, str) and part not in node:
            node[part] = _made(edit.place[depth + 1])
        node = node[part]
    if isinstance(last, int):
        _edit_list(document, node, last, edit)
    elif isinstance(node, InlineTable):
        _edit_inline(document, edit.place[:-1], node, last, edit.value)
    elif edit.value is None:
        _leave_out(node, last)
    elif last in node:
        node[last] = _item(edit.value)
    elif isinstance(node, Table):
        loose = _loose_end(node)
        node[last] = _item(edit.value)
        node.value.body.extend(loose)
    else:
        _set_above_tables(document, last, edit.value)


def _leave_out(node: TOMLDocument | Table, key: str) -> None:
    """Leave out a key in a line of its own; the comment at the line's end stays, in a line for itself."""
    item = node[key]
    body = node.value.body if isinstance(node, Table) else node.body
    at = next(place for place, (name, _) in enumerate(body) if name is not None and name.key == key)
    del node[key]
    if isinstance(item, Item) and item.trivia.comment:
        body[at] = (None, Comment(Trivia(indent=item.trivia.indent, comment=item.trivia.comment)))


def _made(key: str | int) -> Item:
    return tomlkit.table() if isinstance(key, str) else tomlkit.array()


def _item(value: Any) -> Item:  # noqa: ANN401 - whatever TOML holds
    """Write a value as people write it: tables of a list in one line each."""
    return _only(f"a = {_written(value)}\n")


def _only(text: str) -> Item:
    return _item_of(tomlkit.parse(text), "a")


def _item_of(node: TOMLDocument | InlineTable, key: str) -> Item:
    """Give the value of a key with all that stands around it; a table in pieces is none."""
    found = node.item(key)
    if not isinstance(found, Item):
        raise TypeError(f"{key} is written in pieces")
    return found


def _written(value: Any) -> str:  # noqa: ANN401 - whatever TOML holds
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_written(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_written, value)) + "]"
    return tomlkit.item(value).as_string()


def _set_above_tables(document: Any, key: str, value: Any) -> None:  # noqa: ANN401 - a document and a value
    """Set a key of the policy itself that was not there: above the first table, where it belongs to the policy."""
    names = [name.key for name, item in document.body if name is not None and not isinstance(item, Table | AoT)]
    if names:
        document._insert_after(names[-1], key, _item(value))  # noqa: SLF001 - there is no other door for it
    elif document.body:
        document._insert_at(0, key, _item(value))  # noqa: SLF001 - the same
    else:
        document.append(key, _item(value))


def _edit_inline(document: Any, place: Place, node: InlineTable, key: str, value: Any) -> None:  # noqa: ANN401 - whatever TOML holds
    """Set a key of a table in one line; when keys come or go, the line is written anew with its values as they were."""
    if key in node and value is not None:
        new, old = _item(value), _item_of(node, key)
        if isinstance(new, Date) and isinstance(old, Date):
            new._raw += old.trivia.comment_ws  # noqa: SLF001 - as in _keep_spaces
        node[key] = new
        return
    parts = {name: _item_of(node, name).as_string() for name in node if name != key}
    if value is not None:
        parts[key] = _written(value)
    line = "{ " + ", ".join(f"{name} = {each.strip()}" for name, each in parts.items()) + " }" if parts else "{}"
    inside = document
    for part in place[:-1]:
        inside = inside[part]
    inside[place[-1]] = _only(f"a = {line}")


def _edit_list(document: Any, node: Any, at: int, edit: Edit) -> None:  # noqa: ANN401 - an array, or one of tables
    if edit.kind == "set":
        node[at] = _item(edit.value)
    elif isinstance(node, AoT):
        _edit_tables(document, node, at, edit)
    elif edit.kind == "delete":
        _delete(node, at)
    else:
        node.insert(at, _item(edit.value))


def _delete(array: Array, at: int) -> None:
    """Delete a value; a comment in lines of its own above it stays."""
    del array[at]


def _edit_tables(document: Any, tables: AoT, at: int, edit: Edit) -> None:  # noqa: ANN401 - a document
    """Insert or delete a table with a heading of its own; comments above the heading of the next one stay there."""
    if edit.kind == "delete":
        loose = _loose_end(tables[at])
        if at:
            tables[at - 1].value.body.extend(loose)
        else:
            _put_before(document, tables, loose)
        del tables[at]
        return
    new = tomlkit.table()
    for key, value in edit.value.items():
        new[key] = _item(value)
    loose = _loose_end(tables[at - 1]) if at else []
    tables.insert(at, new)
    if at:
        tables[at - 1].value.body.append((None, Whitespace("\n")))
    if not any(isinstance(item, Whitespace) for _, item in loose[:1]) and at < len(tables) - 1:
        loose.insert(0, (None, Whitespace("\n")))
    tables[at].value.body.extend(loose)


def _loose_end(table: Table) -> list[tuple[None, Item]]:
    """Take what stands below the last key of a table: blank lines, and comments above the next heading."""
    body = table.value.body
    at = len(body)
    while at and body[at - 1][0] is None and isinstance(body[at - 1][1], Comment | Whitespace | Null):
        at -= 1
    loose = [(None, item) for _, item in body[at:]]
    del body[at:]
    return loose


def _put_before(document: Any, tables: AoT, loose: list[tuple[None, Item]]) -> None:  # noqa: ANN401 - a document
    """Put blank lines and comments where an array of tables begins."""
    body = document.body
    place = next(index for index, (_, item) in enumerate(body) if item is tables)
    if place and isinstance(body[place - 1][1], Table):
        body[place - 1][1].value.body.extend(loose)
    else:
        body[place:place] = loose
