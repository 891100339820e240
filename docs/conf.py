"""The documentation site: `make docs`. Pages link to each other as in the repository, so its root is the source."""

import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math import latex2mathml

sys.path.insert(0, str(Path(__file__).parent))

import generated

project = "zooscout"
author = copyright = "The zooscout authors"
extensions = ["myst_parser"]
root_doc = "docs/index"
include_patterns = ["docs/**", "benchmarks/**.md", "service/DECISIONS.md", "*.md"]
exclude_patterns = [".*", "**/__pycache__", "docs/screenshots"]
source_suffix = {".md": "markdown"}

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
myst_links_external_new_tab = False
suppress_warnings = ["myst.header"]  # pages of code begin at any level
pygments_style = "friendly"

html_theme = "furo"
html_title = "zooscout"
html_copy_source = False
html_show_sphinx = False
html_math_renderer = "mathml"

LINK = re.compile(r"\]\(([^)#:]+\.(?:md|ipynb))\)")

ANY_LINK = re.compile(r"\[([^\]]+)\]\(([^)#:]+)\)")


def with_contents(text: str) -> str:
    """The lists of links on a page of contents, as the tree of pages that Sphinx wants beside them."""
    trees = []
    for section in re.split(r"(?m)^## ", text)[1:]:
        links = "\n".join(dict.fromkeys(LINK.findall(section)))
        trees.append(f"```{{toctree}}\n:hidden:\n:caption: {section.splitlines()[0]}\n\n{links}\n```")
    return text + "\n\n" + "\n\n".join(trees) + "\n"


def without_folders(text: str, page: Path) -> str:
    """A link to a folder leads somewhere in the repository only: its words are kept."""
    return ANY_LINK.sub(lambda link: link[1] if (page.parent / link[2]).is_dir() else link[0], text)


def on_source(app: Any, name: str, source: list[str]) -> None:
    text = re.sub(r"(?m)^(```\w+) title=\S+$", r"\1", generated.fill(source[0]))
    text = without_folders(text, Path(app.env.doc2path(name)))
    source[0] = with_contents(text) if name.endswith("/index") else text


def mathml(node: nodes.Node, *, block: bool) -> str:
    text = re.sub(r"\\textstyle|(?<=\\)[td](?=frac)", "", node.astext())  # sizes are the browser's to choose
    text = re.sub(r"\\frac\s*(\w)\s*(\w)", r"\\frac{\1}{\2}", text)  # docutils would take the 12 of \frac12 as one
    return latex2mathml.tex2mathml(text, as_block=block)


def inline_math(writer: Any, node: nodes.math) -> None:
    writer.body.append(mathml(node, block=False))
    raise nodes.SkipNode


def block_math(writer: Any, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="math">{mathml(node, block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    app.connect("source-read", on_source)
    # MathML needs neither a script nor another host.
    app.add_html_math_renderer("mathml", (inline_math, None), (block_math, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
