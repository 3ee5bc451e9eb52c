"""An extension of Sphinx: makes the pages that repeat what the package and its tests say, before they are read."""

import pathlib
import re
import shutil
from collections.abc import Iterable
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode

from _extension import gallery, links, names, optimizers, reference
from _extension.font import write_font

MADE = ("optimizers", "reference", "examples", "benchmarks")


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("builder-inited", make_pages)
    app.connect("env-get-outdated", lambda *_: ["index"])  # it lists the pages that there are
    app.connect("source-read", relink)
    app.add_post_transform(NamesAreLinks)
    app.add_html_math_renderer("mathml", (_inline, None), (_display, None))
    app.add_css_file("site.css")
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def make_pages(app: Sphinx) -> None:
    """Writes the pages that are made, anew: nothing of a name that is gone stays."""
    source = pathlib.Path(app.srcdir)
    for room in MADE:
        shutil.rmtree(source / room, ignore_errors=True)
        (source / room).mkdir()
    _write(source / "optimizers", optimizers.pages())
    optimizers.draw(source / "optimizers")
    _write(source / "reference", reference.pages())
    _write(source / "reference", [("names", names.page())])
    _write(source / "examples", gallery.examples())
    _write(source / "benchmarks", gallery.benchmarks(source / "benchmarks"))
    write_font(source / "_static")


def _write(folder: pathlib.Path, pages: Iterable[tuple[str, str]]) -> None:
    for name, text in pages:
        (folder / f"{name}.md").write_text(text)


def relink(app: Sphinx, page: str, source: list[str]) -> None:
    """What is written in docs links to files of the repository; the first page lists what it does not name."""
    folder = pathlib.Path(app.srcdir)
    if "/" not in page:
        source[0] = links.relinked(source[0], folder / f"{page}.md")
    if page == "index":
        named = {page, *re.findall(r"^\w+$", source[0], re.MULTILINE)}
        further = sorted(path.stem for path in folder.glob("*.md") if path.stem not in named)
        source[0] = source[0].replace("further-pages\n", "".join(f"{name}\n" for name in further))


class NamesAreLinks(SphinxPostTransform):
    """`jos.state.migrate` in a text leads to its reference, `examples/fine_tune.py` to its page."""

    default_priority = 5

    def run(self, **kwargs: Any) -> None:
        for node in [*self.document.findall(nodes.literal)]:
            if not isinstance(node.parent, (nodes.reference, nodes.title)):
                self._link(node)

    def _link(self, node: nodes.literal) -> None:
        if page := links.page_of(node.astext()):
            place = (page, "")
        elif name := re.match(r"jos((?:\.\w+)+)", node.astext()):
            place = self._object(f"jaxopt_suite{name[1]}")
        else:
            return
        if place and place[0] != self.env.docname and place[0] in self.env.all_docs:
            node.replace_self(make_refnode(self.app.builder, self.env.docname, *place, node.deepcopy()))

    def _object(self, name: str) -> tuple[str, str] | None:
        """The page and the anchor of a name, or of what it is an attribute of."""
        known = self.env.domains["py"].objects  # type: ignore[attr-defined]
        while name not in known:
            name, dot, _ = name.rpartition(".")
            if not dot:
                return None
        return known[name].docname, known[name].node_id


def _inline(writer: Any, node: nodes.math) -> None:
    writer.body.append(_mathml(node.astext()))
    raise nodes.SkipNode


def _display(writer: Any, node: nodes.math_block) -> None:
    written = _mathml(node.astext(), as_block=True).replace("<mtable", '<mtable displaystyle="true"')
    writer.body.append(f'<div class="formula">{written}</div>\n')
    raise nodes.SkipNode


def _mathml(text: str, **how: bool) -> str:
    """MathML, with norms whose bars are as high as letters."""
    return tex2mathml(text, **how).replace("<mo>‖</mo>", '<mo stretchy="false">‖</mo>')
