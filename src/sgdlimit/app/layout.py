"""How parts of the page are laid out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import panel as pn

from .figures import card

HERE = Path(__file__).parent
NO_SCROLLING = ".scroll-button { display: none !important; }"  # a column's button would take the first cell of a grid


def styled() -> dict[str, Any]:
    """What all widgets and texts have in common."""
    return {"stylesheets": [(HERE / "widgets.css").read_text(encoding="utf-8")], "sizing_mode": "stretch_width", "margin": (3, 0)}


def plain() -> dict[str, Any]:
    return {"sizing_mode": "stretch_width", "margin": 0}


def grid(narrowest: int) -> dict[str, Any]:
    """As many columns as there is room for, each at least so many letters wide."""
    columns = f"repeat(auto-fit, minmax(min(100%, {narrowest}rem), 1fr))"
    styles = {"display": "grid", "grid-template-columns": columns, "gap": "10px"}
    return {"styles": styles, "stylesheets": [NO_SCROLLING], "sizing_mode": "stretch_width"}


def cards(plots: list[Any], narrowest: int) -> Any:
    return pn.Column(*map(card, plots), **grid(narrowest))


@contextmanager
def together(doc: Any) -> Iterator[None]:
    """Many changes of a page's parts, which Bokeh then counts once. Its own `freeze` would never end where something is raised within, and
    the page would never learn of a new part again."""
    raised: Exception | None = None
    with doc.models.freeze():
        try:
            yield
        except Exception as e:
            raised = e
    if raised is not None:
        raise raised
