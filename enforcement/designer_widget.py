"""The designer in a notebook: a widget where a browser can draw it, the still picture of a schedule elsewhere."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import anywidget

from enforcement.designer_session import Session
from enforcement.workbench import Setting

_PAGE: Final = Path(__file__).parent / "page"


class Shown(Protocol):
    """What a notebook can show."""

    def _repr_mimebundle_(self, **kwargs: Any) -> Any: ...  # noqa: ANN401 - as notebooks have it


class _Widget(anywidget.AnyWidget):
    """The browser's side, and what it wishes of the session; the history is read at its first wish."""

    _esm = _PAGE / "designer.js"
    _css = _PAGE / "designer.css"

    def __init__(self, policy: str, setting: Setting) -> None:
        super().__init__()
        self._asked = (policy, setting)
        self._session: Session | None = None
        self.on_msg(self._heard)

    def _heard(self, _: object, wish: Mapping[str, Any], __: object) -> None:
        self.send(self.answer(wish))

    def answer(self, wish: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a wish; what cannot be had is told in words, and nothing else changes."""
        to = {"re": wish.get("seq"), "from": wish.get("from")}
        try:
            if self._session is None:
                policy, setting = self._asked
                self._session = Session(setting=setting, asked=policy)
            return self._session.wished(wish) | to
        except (ValueError, LookupError, OSError) as problem:
            return {"error": _in_words(problem)} | to
        except Exception as problem:
            if os.environ.get("ENFORCEMENT_TRACEBACK"):
                raise
            return {"error": f"a fault of this program: {type(problem).__name__}: {problem}"} | to


def _in_words(problem: Exception) -> str:
    if isinstance(problem, OSError) and problem.strerror:
        return f"{problem.filename}: {problem.strerror}" if problem.filename else problem.strerror
    return str(problem.args[0]) if isinstance(problem, KeyError) and problem.args else str(problem)


class Designer:
    """A designer of a policy on a store; in a report, which has no kernel behind it, the still picture."""

    def __init__(self, policy: str, setting: Setting, *, still: Shown) -> None:
        self._policy, self._setting, self._still = policy, setting, still
        self._widget: _Widget | None = None

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        """Show both: a front end with widgets takes the widget, every other one the picture."""
        if self._widget is None:
            self._widget = _Widget(self._policy, self._setting)
        return _data(self._widget._repr_mimebundle_()) | _data(self._still._repr_mimebundle_())


def _data(bundle: Any) -> dict[str, Any]:  # noqa: ANN401 - with its metadata, or without
    return dict(bundle[0] if isinstance(bundle, tuple) else bundle or {})
