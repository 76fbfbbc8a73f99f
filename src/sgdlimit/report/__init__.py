"""One self-contained HTML page per run: curves to explore, settings, verdicts, how it ended and how long it took."""

from .page import Entry, page, write

__all__ = ["Entry", "page", "write"]
