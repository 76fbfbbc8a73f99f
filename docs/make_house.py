"""Draw the plan of the house, `docs/images/house.svg`, from `sgdlimit.rooms`: run it when rooms change; a test compares the two."""

from __future__ import annotations

from html import escape
from pathlib import Path

from sgdlimit.rooms import FLOORS

FILE = Path(__file__).resolve().parent / "images" / "house.svg"
WIDTH, HEIGHT, GAP, MARGIN = 960, 46, 8, 14
LETTER = 6.2  # width of a letter of the small print
TINTS = {"theory": "#dce9f5", "show": "#f9e3cf", "results": "#d9f0e6", "learning": "#f3e3ee"}  # of rooms people look for
PLAIN = "#f1f1ec"


def picture() -> str:
    """The plan as SVG: a row for each floor, the ground at the bottom."""
    total = 2 * MARGIN + len(FLOORS) * (HEIGHT + GAP) - GAP + 22
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total}" role="img" aria-label="Rooms of the package by floor">',
        "<style>text { font-family: ui-sans-serif, system-ui, sans-serif; fill: #222 } .name { font: 600 13px ui-monospace, monospace }"
        " .words { font-size: 11px; fill: #555 }</style>",
        f'<rect width="{WIDTH}" height="{total}" fill="#fff"/>',
        f'<text class="words" x="{MARGIN}" y="{MARGIN + 8}">Imports point down; rooms of one floor do not know each other.</text>',
    ]
    for number, rooms in enumerate(reversed(FLOORS)):
        top, left = MARGIN + 22 + number * (HEIGHT + GAP), float(MARGIN)
        for (name, words), width in zip(rooms.items(), _widths(rooms), strict=True):
            parts += _room(_title(name), words, left, top, width)
            left += width + GAP
    return "\n".join([*parts, "</svg>", ""])


def _title(name: str) -> str:
    """Modules and folders as they lie below `sgdlimit/`."""
    places = [place.replace(".", "/") for place in name.split()]
    return places[0] if len(places) == 1 else ", ".join([places[0], *(place.rpartition("/")[2] for place in places[1:])])


def _widths(rooms: dict[str, str]) -> list[float]:
    """Of the rooms of one floor, by what is written in them."""
    wanted = [max(len(_title(name)) * 1.35, len(words)) + 4 for name, words in rooms.items()]
    free = WIDTH - 2 * MARGIN - GAP * (len(rooms) - 1)
    return [free * one / sum(wanted) for one in wanted]


def _room(name: str, words: str, left: float, top: float, width: float) -> list[str]:
    most = int((width - 16) / LETTER)
    assert len(words) <= most, f"`{words}` does not fit into {name}"
    tint = TINTS.get(name.split("/")[0], PLAIN)
    return [
        f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{HEIGHT}" rx="4" fill="{tint}" stroke="#999" stroke-width="0.7"/>',
        f'<text class="name" x="{left + 8:.1f}" y="{top + 19}">{escape(name)}</text>',
        f'<text class="words" x="{left + 8:.1f}" y="{top + 36}">{escape(words)}</text>',
    ]


if __name__ == "__main__":
    FILE.write_text(picture(), encoding="utf-8")
    print(f"Picture: {FILE}")
