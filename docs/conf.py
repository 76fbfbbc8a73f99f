"""The documentation site: `make docs`. Pages are Markdown; their code cells are executed when the site is built, warnings are errors."""

from __future__ import annotations

import hashlib
import os
import sys
from functools import cache
from pathlib import Path

import sgdlimit

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent

sys.path.insert(0, str(DOCS))

project = "sgdlimit"
author = "The sgdlimit developers"
copyright = author
version = release = sgdlimit.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx_parts"]
exclude_patterns = ["_build", "images"]
nitpicky = True
default_role = "code"  # docstrings put names between single backticks
# Names of other projects: nothing is fetched when the site is built, so they link nowhere.
nitpick_ignore_regex = [
    ("py:.*", r"(?!sgdlimit).*"),
    ("py:.*", r"sgdlimit\..*\.(Array|Step|Dynamics|Teacher|Penalty|Progress|Pairs|F)"),  # unions and short names of types
    # What the reference leaves out.
    ("py:.*", r"sgdlimit\.(results\.(result\.Kept|panels\.Shown)|show\.looks\.Curve|learning\.clock\.Clock)"),
    ("py:.*", r"sgdlimit\.tune\.(space\.Family|trials\.(Measure|Trial))"),
    ("py:.*", r"sgdlimit\.theory\.(samples\.histories|laws\.averaged|weights\.particles|accuracy\.(checkpoint|witness|replicates))\..*"),
]

myst_enable_extensions = ["dollarmath", "deflist", "colon_fence"]
myst_dmath_double_inline = True
myst_heading_anchors = 3
suppress_warnings = ["misc.highlighting_failure"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True}
napoleon_numpy_docstring = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
add_module_names = False

html_theme = "furo"
html_title = f"sgdlimit {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"top_of_page_buttons": []}
html_math_renderer = "mathml"
pygments_dark_style = "github-dark"


@cache
def _digest() -> str:
    """Of all code that a page may run: what it prints belongs to it."""
    files = sorted((ROOT / "src").rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


_build = Path(os.environ.get("SGDLIMIT_DOCS_CACHE", DOCS / "_build" / "cache"))
nb_execution_mode = "cache"
nb_execution_cache_path = str(_build / _digest())
nb_execution_excludepatterns = os.environ.get("SGDLIMIT_DOCS_UNEXECUTED", "").split()  # of a test that has only some pages run
if nb_execution_excludepatterns:
    suppress_warnings.append("myst-nb.lexer")  # a kernel tells the language
    extensions.remove("sphinx.ext.viewcode")  # a page a module, a third of the time
nb_execution_in_temp = True
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_output_stderr = "error"
nb_merge_streams = True
# Pages run in processes of their own, which share what they compile.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_build / "compiled"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PLATFORMS", "cpu")


def setup(app):
    # Pages are read again when the code changes, although their text is the same.
    app.add_config_value("sgdlimit_code", _digest(), "env", str)
