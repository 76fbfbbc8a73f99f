"""Self-contained HTML pages: a template of any room on the common frame `base.html`. What users wrote is escaped, nothing is fetched."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..files import replacing


def render(room: str, template: str, pictures: Sequence[Any] = (), **fields: Any) -> str:
    """Fill `template`, a file of the package `room`.

    Arguments:
        pictures: of Bokeh; the template gets each as HTML in `figures`, and the frame what they need.
        fields: what else the template names.
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader

    loader = ChoiceLoader([PackageLoader(room, "."), PackageLoader("sgdlimit.show", ".")])
    if pictures:
        from bokeh.embed import components
        from bokeh.resources import Resources
        from markupsafe import Markup

        script, figures = components(tuple(pictures))
        fields |= {
            "resources": Markup(_alone(Resources(mode="inline", components=["bokeh"]).render())),
            "script": Markup(script),
            "figures": [Markup(figure) for figure in figures],
        }
    return Environment(loader=loader, autoescape=True).get_template(template).render(fields)


def _alone(resources: str) -> str:
    """Without scripts to be fetched: those of other libraries' models, which Bokeh adds once they are imported; no picture uses them."""
    return re.sub(r"<script[^>]*\ssrc=[^>]*>\s*</script>", "", resources)


def write(path: str | os.PathLike[str], text: str) -> None:
    """Write a page; the file appears whole or not at all."""
    with replacing(Path(path)) as temporary:
        temporary.write_text(text, encoding="utf-8")
