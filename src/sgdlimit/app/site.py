"""What all pages of one server share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import panel as pn

from ..results import Result
from .choices import Opened
from .desk import Desk


@dataclass(frozen=True)
class Site:
    """What all visits share: the desk, what was opened with the command, and the visits by their tokens."""

    desk: Desk
    opened: Mapping[str, Opened] = field(default_factory=dict)
    results: Mapping[str, Result] = field(default_factory=dict)
    sweeps: Mapping[str, Path] = field(default_factory=dict)
    visits: dict[str, Any] = field(default_factory=dict)  # `page.Visit`

    def fault(self, e: BaseException) -> None:
        """An exception that no page has caught: of the page whose turn it is, or where nobody knows, of any."""
        doc = pn.state.curdoc
        for visit in list(self.visits.values()):
            if doc is None or visit.doc is doc:
                visit.soon(visit.fault, e)
