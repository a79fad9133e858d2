"""Pages from ../notebooks: copies with links that fit the site, and pictures in place of live widgets."""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config

SOURCES = (("core", "*.py"), ("core", "*.c*"), ("lrwidgets", "*.py"), ("notebooks", "*.ipynb"))
WIDGET = re.compile(r"\b(Studio|SliceView|\w+Widget)\(")
PICTURES = {"Studio": "studio.png"}
NOTE = "The widget as a picture: it is interactive in a live notebook only."


def fingerprint(root: Path) -> str:
    """Return a hash of everything that the output of the notebooks depends on."""
    digest = hashlib.sha256()
    for folder, pattern in SOURCES:
        for path in sorted((root / folder).rglob(pattern)):
            digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def write(notebooks: Path, docs: Path) -> None:
    """Copy the notebooks to `docs/notebooks`. A copy that has not changed is left as it is."""
    folder = docs / "notebooks"
    folder.mkdir(exist_ok=True)
    for path in sorted(notebooks.glob("*.ipynb")):
        text = json.dumps(adapted(json.loads(path.read_text())), indent=1, ensure_ascii=False)
        copy = folder / path.name
        if not copy.exists() or copy.read_text() != text:
            copy.write_text(text)


def adapted(notebook: dict[str, Any]) -> dict[str, Any]:
    """Return the notebook with links to `../docs/` as they are on the site, and with IPython's syntax highlighting."""
    notebook["metadata"]["language_info"]["pygments_lexer"] = "ipython3"
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = "".join(cell["source"]).replace("](../docs/", "](../")
    return notebook


def _write(app: Sphinx, config: Config) -> None:
    docs = Path(app.srcdir)
    outputs = docs / "_build" / "executed" / fingerprint(docs.parent)
    write(docs.parent / "notebooks", docs)
    _remove_leftovers(docs / "notebooks", outputs)
    _set_up_kernels(docs / "_build" / "ipython")
    config.nb_execution_cache_path = str(outputs)


def _remove_leftovers(folder: Path, outputs: Path) -> None:
    """Remove what earlier executions wrote, and after a change of the sources their outputs and the example, too."""
    keep = {"example"} if outputs.exists() else set()
    leftovers = [path for path in folder.iterdir() if path.suffix != ".ipynb" and path.name not in keep]
    stale = [path for path in outputs.parent.glob("*") if path != outputs]
    for path in leftovers + stale:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _set_up_kernels(folder: Path) -> None:
    """Give the kernels a configuration of their own, which is silent, and nothing of the user's."""
    profile = folder / "profile_default"
    profile.mkdir(parents=True, exist_ok=True)
    (profile / "ipython_kernel_config.py").write_text('c.IPKernelApp.log_level = "ERROR"\n')
    os.environ["IPYTHONDIR"] = str(folder)


def _site_links(app: Sphinx, docname: str, source: list[str]) -> None:
    """Let links to ../notebooks lead to the copies."""
    if not docname.startswith("notebooks/"):
        source[0] = re.sub(r"\]\((?:\.\./)+notebooks/", f"]({'../' * docname.count('/')}notebooks/", source[0])


def _replace_widgets(app: Sphinx, doctree: nodes.document) -> None:
    """Replace the text of a widget by its picture, if `images/widgets` has one, or by a note."""
    docname = app.env.docname
    if not docname.startswith("notebooks/"):
        return
    for cell in doctree.findall(lambda node: isinstance(node, nodes.container) and "cell" in node["classes"]):
        for literal in list(cell.findall(nodes.literal_block)):
            if re.match(r"(VBox|HBox|Box|Tab)\(children=", literal.astext()):
                match = WIDGET.search(cell.astext())
                literal.replace_self(_picture(app, match.group(1) if match else ""))


def _picture(app: Sphinx, name: str) -> nodes.Node:
    image = Path(app.srcdir) / "images" / PICTURES.get(name, f"widgets/{name}.png")
    if not image.exists():
        return nodes.paragraph("", "A widget, shown in a live notebook only.", classes=["lrw-widget-note"])
    note = nodes.paragraph("", NOTE, classes=["lrw-widget-note"])
    uri = image.relative_to(app.srcdir).as_posix()
    app.env.images.add_file(app.env.docname, uri)
    picture = nodes.image(uri=uri, alt=f"{name} in a notebook", candidates={"*": uri})
    return nodes.container("", picture, note)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the changes of links and outputs."""
    app.connect("config-inited", _write)
    app.connect("source-read", _site_links)
    app.connect("doctree-read", _replace_widgets)
    return {"version": "1", "parallel_read_safe": False}
