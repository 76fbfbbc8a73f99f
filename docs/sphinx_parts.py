"""What this site adds to Sphinx: mathematics as MathML, which needs no script, docstrings in plain text, and a role for tests.

    {test}`test_reference.py::test_theory_meets_simulation`

becomes "reference: theory meets simulation" with the test's file behind it; a test that does not exist is a warning, and so an error.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx import addnodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxRole

TESTS = Path(__file__).resolve().parent.parent / "tests"
logger = logging.getLogger(__name__)


# --- mathematics -------------------------------------------------------------------------------------------------------


def visit_math(self, node) -> None:
    self.body.append(self.starttag(node, "span", "", CLASS="math notranslate nohighlight"))
    self.body.append(_mathml(node, block=False) + "</span>")
    raise nodes.SkipNode


def visit_display(self, node) -> None:
    self.body.append(self.starttag(node, "div", CLASS="math notranslate nohighlight"))
    if node["number"]:
        self.body.append(f'<span class="eqno">({node["number"]})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append(_mathml(node, block=True) + "</div>")
    raise nodes.SkipNode


def _mathml(node: nodes.Element, block: bool) -> str:
    text = node.astext()
    if block and "\\\\" in text and "\\begin" not in text:
        text = rf"\begin{{aligned}}{text}\end{{aligned}}"
    try:
        return tex2mathml(text, as_block=block)
    except Exception as e:
        logger.warning("mathematics that cannot be written as MathML: %s (%s)", text, e, location=node)
        return nodes.literal(text, text).astext()


# --- docstrings --------------------------------------------------------------------------------------------------------


def plain(app, what, name, obj, options, lines: list[str]) -> None:
    """Docstrings are plain text: only backticks mean something, and an indented block after an empty line is shown as it stands."""
    out: list[str] = []
    literal: int | None = None
    for i, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if line.strip() and literal is not None and indent < literal:
            literal = None
        if literal is None and line.strip() and i > 0 and not lines[i - 1].strip():
            above = next((one for one in reversed(lines[:i]) if one.strip()), "")
            if indent >= len(above) - len(above.lstrip()) + 4:
                literal = indent
                out += [" " * (indent - 4) + "::", ""]
        if i > 0 and lines[i - 1].strip() == "Returns:":  # else a colon further on would end the "type"
            line = f"{line[:indent]}: {line[indent:]}"
        out.append(line if literal is not None else _escaped(line))
    lines[:] = out


def _escaped(line: str) -> str:
    parts = re.split(r"(``?[^`]+``?)", line)
    parts[::2] = [re.sub(r"(?<!\\)([*|])|(?<=\w)(_)(?=\W|$)", lambda m: "\\" + m[0], part) for part in parts[::2]]
    return "".join(parts)


# --- tests -------------------------------------------------------------------------------------------------------------


@cache
def tests_of(name: str) -> frozenset[str]:
    path = TESTS / name
    if not path.is_file():
        return frozenset()
    return frozenset(node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef))


class Test(SphinxRole):
    """The file is offered beside the page, so that the test is one click away."""

    def run(self):
        file, _, name = self.text.partition("::")
        if name not in tests_of(file):
            logger.warning("there is no test %s", self.text, location=self.get_location())
        node = addnodes.download_reference(self.rawtext, refdoc=self.env.docname, reftarget=f"/../tests/{file}", reftype="download")
        words = ": ".join(part.removesuffix(".py").removeprefix("test_").replace("_", " ") for part in (file, name))
        node += nodes.inline(self.rawtext, words, classes=["test"])
        self.set_source_info(node)
        return [node], []


def setup(app):
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_display, None))
    app.connect("autodoc-process-docstring", plain, priority=400)
    app.add_role("test", Test())
    return {"parallel_read_safe": True, "parallel_write_safe": True}
