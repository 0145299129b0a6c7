"""Sphinx builds the site: ``python -m sphinx -W --keep-going -n docs build/site``.

No network is needed, neither to build the site nor to read it: formulas are MathML, tests are
shown by the site itself. With ``-t online`` references to other projects become links.
"""

import sys
from pathlib import Path

import xgrad_optax

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "xgrad_optax"
author = copyright = "The xgrad_optax authors"
version = release = xgrad_optax.__version__

extensions = [
    "mathml",
    "myst_parser",
    "notebooks",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "test_sources",
]
if tags.has("online"):  # noqa: F821  (Sphinx defines it)
    extensions.append("sphinx.ext.intersphinx")
intersphinx_mapping = {
    "flax": ("https://flax.readthedocs.io/en/latest", None),
    "jax": ("https://docs.jax.dev/en/latest", None),
    "numpy": ("https://numpy.org/doc/stable", None),
    "optax": ("https://optax.readthedocs.io/en/latest", None),
    "python": ("https://docs.python.org/3", None),
}

html_theme = "furo"
html_title = "xgrad_optax"
html_math_renderer = "mathml"

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings say it in words; spelled-out unions of arrays do not help
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

# A reference to a public name of this package must resolve. Those to other packages become links
# with ``-t online`` only; annotations name types where they are defined, which may be private.
nitpick_ignore_regex = [
    (r"py:.*", r"(?!xgrad_optax\.(?!_)).*"),
    (r"py:class", r"xgrad_optax\.control_variates\.\w+\.\w+"),
]
