"""What all comparisons of theory with real runs have in common: a sentence, a table, and how both are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Verdict:
    """Whether two sides `agree`, in a sentence `verdict`, with a table; `str()` and notebooks show it, `plot` draws it."""

    agree: bool
    verdict: str
    title: ClassVar[str]  # above the table
    head: ClassVar[tuple[str, ...]]  # of the table
    measure: str  # what the bars of `plot` measure

    def cells(self) -> list[tuple[str, ...]]:
        """The table in words, a tuple as `head` for each row."""
        raise NotImplementedError

    def bars(self) -> list[tuple[str, float, float, bool]]:
        """For each row its name, the value, what chance explains, and whether it agrees."""
        raise NotImplementedError

    def __str__(self) -> str:
        from ..show import words

        return f"{words.table(self.head, self.cells())}\n\n{self.verdict}"

    def plot(self, ax: Axes | None = None) -> Axes:
        """A bar for each row of the table, with a mark at what chance explains. `ax` are Matplotlib axes, by default new ones; they
        are returned."""
        from ..show import paper

        return paper.bars(self.bars(), paper.axes(ax), self.measure)

    def _repr_html_(self) -> str:
        from ..show import html

        told = html.verdict("", self.verdict, html.GOOD if self.agree else html.BAD)
        return html.frame(html.title(self.title), told, html.table(self.head, self.cells()))
