"""Formulas as MathML, which browsers draw by themselves: no script, no network, no LaTeX."""

import re

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.util import logging

ARG = re.compile(r"\\arg(?![a-zA-Z])")  # which latex2mathml 3.81 does not know
UNKNOWN_COMMAND = re.compile(r">\s*\\[a-zA-Z|]")  # it is passed on as text

logger = logging.getLogger(__name__)


def mathml(node: nodes.Element, display: str) -> str:
    """The formula; a warning names one with a command that would be shown as it is written."""
    latex = ARG.sub(r"\\operatorname{arg}", node.astext())
    converted = convert(latex, display=display)
    if UNKNOWN_COMMAND.search(converted):
        logger.warning("a command in this formula is unknown: %s", latex, location=node)
    return converted


def visit_inline(self, node: nodes.math) -> None:
    """A formula in a line of text."""
    self.body.append(mathml(node, "inline"))
    raise nodes.SkipNode


def visit_block(self, node: nodes.math_block) -> None:
    """A formula of its own."""
    self.body.append(f'<div class="math">{mathml(node, "block")}</div>\n')
    raise nodes.SkipNode


def setup(app) -> dict[str, bool]:
    """Adds the renderer; ``html_math_renderer = "mathml"`` chooses it."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
