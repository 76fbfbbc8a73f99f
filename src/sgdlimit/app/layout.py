"""How parts of the page are laid out."""

from __future__ import annotations

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
