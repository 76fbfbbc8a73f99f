"""Pieces of light HTML for a notebook: a title, a verdict, tables, a picture without paper.

Nothing is fetched or run, everything written by a user is escaped, and lines and words take the colour of the page's text, so that they
are read on dark pages as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

INK = "#010203"  # stands for the colour of the page's text until a picture is written
GOOD, BAD, DOUBT = "#159a6c", "#e0622b", "#b98a00"  # readable on white and on black


def frame(*parts: str) -> str:
    return f"<div class='sgdlimit' style='max-width:44rem;line-height:1.45'>{''.join(parts)}</div>"


def title(text: str) -> str:
    return f"<div style='font-weight:600'>{escape(text)}</div>"


def verdict(code: str, text: str, colour: str) -> str:
    """A sentence behind a coloured rule; its code is left out where the sentence begins with it."""
    said = text if text.lower().startswith(code.lower()) else f"{code}: {text}"
    return f"<div style='border-left:3px solid {colour};padding-left:.7em;margin:.4em 0'>{escape(said)}</div>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The first column to the left, numbers to the right; it scrolls where the page is narrow."""
    rule = "border:0;border-bottom:1px solid rgba(128,128,128,.35)"
    cell = f"padding:.15em .9em .15em 0;{rule};background:none;white-space:nowrap;text-align:"
    place = lambda i: f"{cell}{'right' if i else 'left'}"
    line = lambda tag, cells: "<tr>" + "".join(f"<{tag} style='{place(i)}'>{escape(one)}</{tag}>" for i, one in enumerate(cells)) + "</tr>"
    body = "".join(line("td", row) for row in rows)
    style = "border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.92em;margin:.4em 0"
    return f"<div style='overflow-x:auto'><table style='{style}'><thead>{line('th', head)}</thead><tbody>{body}</tbody></table></div>"


def more(summary: str, told: Iterable[tuple[str, str]]) -> str:
    """Names and values behind a summary to be opened."""
    rows = "".join(f"<dt style='opacity:.75'>{escape(name)}</dt><dd style='margin:0'>{escape(value)}</dd>" for name, value in told)
    grid = "display:grid;grid-template-columns:max-content 1fr;gap:.1em 1em;font-size:.88em;margin:.4em 0;overflow-wrap:anywhere"
    return f"<details><summary style='cursor:pointer'>{escape(summary)}</summary><dl style='{grid}'>{rows}</dl></details>"


def svg(draw: Any, size: tuple[float, float], words: str) -> str:
    """What `draw(figure)` draws, as an inline picture without a background, in the ink of the page."""
    import io

    import matplotlib as mpl
    from matplotlib.figure import Figure

    from .paper import style

    with style():
        mpl.rcParams.update(dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK))
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        with io.StringIO() as file:
            figure.savefig(file, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
            text = file.getvalue()
    # A style sheet would hold for the whole page, so what it says of lines goes to the picture's own style.
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>", "", text[text.index("<svg") :], flags=re.S)
    text = text.replace(INK, "currentColor")
    text = re.sub(r"\b([1-9]\d*\.\d{2})\d+", r"\1", text)  # places to a hundredth of a point; the small numbers are sizes of letters
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # names that no part refers to
    text = re.sub(r">\s+<", "><", text)
    opening = re.sub(r'\b(width|height)="[^"]*pt" ?', "", text[: text.index(">")])
    style = f"width:100%;max-width:{size[0] * 100:.0f}px;height:auto;display:block;stroke-linejoin:round;stroke-linecap:butt"
    return f'{opening} role="img" aria-label="{escape(words)}" style="{style}"{text[text.index(">") :]}'
