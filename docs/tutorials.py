"""Execute the tutorials: ``.venv/bin/python docs/tutorials.py NAME…``, with the extra ``docs``.

A tutorial is a Markdown file in docs/tutorials. Its Python blocks run in order, as a notebook, in an empty folder.
"""

from __future__ import annotations

import re
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from hashlib import blake2b
from pathlib import Path
from typing import Any

from joma.provenance import code_digest

FOLDER = Path(__file__).parent / "tutorials"
TUTORIALS = {path.stem: path for path in sorted(FOLDER.glob("*.md"))}
_TIMEOUT_S = 1200
_PAGE = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#]+)\.md(?=[)#])")
_PANDAS = re.compile(r"<div>\n<style scoped>.*?</style>\n(.*)</div>", re.DOTALL)


def executed(name: str) -> Any:
    """Run a tutorial as a notebook, with its pictures; progress and warnings are not kept.

    Raises:
        nbclient.exceptions.CellExecutionError: a block raises an error.
    """
    import jupytext
    from nbclient import NotebookClient

    notebook = jupytext.read(TUTORIALS[name])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=_TIMEOUT_S, resources={"metadata": {"path": folder}}).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


def with_links_to_pages(notebook: Any) -> Any:
    """Return a copy of a notebook whose links to Markdown files lead to the pages that the site makes of them."""
    linked = deepcopy(notebook)
    for cell in linked.cells:
        if cell.cell_type == "markdown":
            cell.source = _PAGE.sub(r"\1.html", cell.source)
    return linked


def page(name: str, notebook: Any) -> tuple[str, dict[str, bytes]]:
    """Return an executed tutorial as Markdown, and its pictures by file name."""
    from nbconvert import MarkdownExporter

    for cell in notebook.cells:
        if cell.cell_type == "code":
            for data in (output.data for output in cell.outputs if "data" in output):
                if table := _PANDAS.fullmatch(data.get("text/html", "")):
                    data["text/html"] = table[1].replace(' border="1" class="dataframe"', "")
                else:
                    data.pop("text/html", None)
                if data.get("text/plain", "").startswith("<"):  # the axes of a picture
                    del data["text/plain"]
            for output in cell.outputs:
                if output.get("name") == "stdout":
                    output.text = "\n".join(
                        textwrap.fill(line, 88, break_on_hyphens=False) for line in output.text.splitlines()
                    )
            cell.outputs = [output for output in cell.outputs if output.get("data", True)]
    text, resources = MarkdownExporter().from_notebook_node(notebook, {"unique_key": name, "output_files_dir": name})
    text = text.replace("![png](", "![What the code above draws](")
    title, body = text.strip().split("\n", 1)
    note = f"*Executed when this page was built. [As a notebook]({name}.ipynb).*"
    return f"{title}\n\n{note}\n{body}\n", resources["outputs"]


@contextmanager
def made_once(mark: Path, text: str) -> Iterator[bool]:
    """Yield whether something must be made, and then mark it as made from this text and from joma's code as it is."""
    digest = blake2b((text + code_digest()).encode(), digest_size=12).hexdigest()
    yield not mark.exists() or mark.read_text() != digest
    mark.write_text(digest)


def write(names: Sequence[str], folder: Path) -> None:
    """Execute tutorials, and write each as a page, a notebook and pictures into a folder.

    What is there from the same text and the same code is kept.
    """
    import nbformat

    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        with made_once(folder / f"{name}.digest", TUTORIALS[name].read_text(encoding="utf-8")) as needed:
            if not needed:
                continue
            notebook = executed(name)
            nbformat.write(with_links_to_pages(notebook), folder / f"{name}.ipynb")
            text, pictures = page(name, notebook)
            for picture, content in pictures.items():
                (folder / picture).parent.mkdir(exist_ok=True)
                (folder / picture).write_bytes(content)
            (folder / f"{name}.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(sys.argv[1:] or list(TUTORIALS), FOLDER.parents[1] / "build" / "tutorials")
