"""What a page shows, as files: made from one moment of it, so that settings and curves in a file belong together."""

from __future__ import annotations

import io
import re
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..results import Simulation, Solution
from .figures import OF
from .writing import toml

PNG_DPI = 200


@dataclass(frozen=True)
class Shown:
    """Settings, the curves of theory and real runs by dynamics, the two-time kernels that are looked at, with their entry, and the settings
    of those curves that have others."""

    settings: Mapping[str, Any]
    drawn: Mapping[str, tuple[Solution | None, Simulation | None]]
    kernels: tuple[Solution, tuple[int, int]] | None = None
    others: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def some(self) -> Mapping[str, tuple[Solution | None, Simulation | None]]:
        if not self.drawn:
            raise InputError("`curves` must be there to be saved, but nothing is solved yet (wait for the first curves)")
        return self.drawn


def _toml(shown: Shown) -> bytes:
    head = "# From the explorer.   sgdlimit run settings.toml\n\n"
    return (head + toml(shown.settings)).encode()


def _netcdf(shown: Shown) -> bytes:
    """All results shown, named as `sgdlimit run` names them, with the settings in each."""
    settings, buffer = toml(shown.settings), io.BytesIO()
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for title, pair in shown.some().items():
            for kind, result in zip(("theory", "simulation"), pair, strict=True):
                if result is not None:
                    path = Path(folder) / f"{kind}-{re.sub(r'[ ,]+', '-', title.lower())}.nc"
                    own = toml(shown.others[title]) if title in shown.others else settings
                    attrs = {name: value for name, value in result.dataset.attrs.items() if name != OF} | {"settings": own}
                    dataset = result.dataset.copy()
                    dataset.attrs = attrs
                    type(result)(dataset, result.status, result.diagnostics).save(path)
                    archive.write(path, path.name)
        archive.writestr("settings.toml", settings)
    return buffer.getvalue()


def _png(shown: Shown) -> bytes:
    """The curves, or the two-time kernels where these are shown, as for a paper."""
    from .. import plot

    figure = plot.two_time(*shown.kernels) if shown.kernels else plot.curves(shown.some())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "curves.png"
        plot.save(figure, path, PNG_DPI)
        return path.read_bytes()


FILES: dict[str, tuple[Callable[[Shown], bytes], str]] = {
    "settings.toml": (_toml, "application/toml; charset=utf-8"),
    "curves.zip": (_netcdf, "application/zip"),
    "curves.png": (_png, "image/png"),
}
