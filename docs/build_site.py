"""Build the site from docs/ into build/site: ``.venv/bin/python docs/build_site.py``, with the extra ``docs``.

Tutorials and the examples of public names are executed if they or joma's code changed, which takes minutes;
``--draft`` shows their text only.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import examples
import tutorials

import joma

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ELSEWHERE = {
    "benchmarks.md": ROOT / "benchmarks" / "README.md",
    "results.md": ROOT / "results" / "README.md",
    "changelog.md": ROOT / "CHANGELOG.md",
    "contributing.md": ROOT / "CONTRIBUTING.md",
}
"""Pages of the site that are files of the repository outside docs/."""

ZENSICAL = Path(sysconfig.get_path("scripts")) / "zensical"

_EXPLORER = """[The explorer](explorer.html): the theory to be moved by hand, next to a network that was trained.

<iframe src="explorer.html" title="The explorer" loading="lazy" style="width: 100%; height: 80vh; border: 0"></iframe>

"""

_LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#]+)")


def sources() -> dict[str, Path]:
    """Return the Markdown file of every page, by its name on the site."""
    return {path.relative_to(DOCS).as_posix(): path for path in sorted(DOCS.rglob("*.md"))} | ELSEWHERE


def page(name: str, pages: dict[str, Path]) -> str:
    """Return a page with its links to files of the repository turned into links to pages of the site."""
    names = {path: other for other, path in pages.items()}

    def link(found: re.Match[str]) -> str:
        target = (pages[name].parent / found[1]).resolve()
        return os.path.relpath(names[target], Path(name).parent) if target in names else found[1]

    return _LINK.sub(link, pages[name].read_text(encoding="utf-8"))


def settings() -> str:
    """Return docs/zensical.toml with all pages in its navigation: public names in their groups, others at the end."""
    stub = Path(joma.__file__).with_suffix(".pyi").read_text(encoding="utf-8")
    lines = ['"api/index.md",']
    for group in re.split(r"^# ", stub, flags=re.MULTILINE)[1:]:
        names = (f'"api/{name}.md"' for name in re.findall(r" as (\w+)$", group, re.MULTILINE))
        lines.append(f'{{ "{group.splitlines()[0]}" = [{", ".join(names)}] }},')
    written = (DOCS / "zensical.toml").read_text(encoding="utf-8")
    more = [f'"{name}"' for name in sources() if not name.startswith("api/") and f'"{name}"' not in written]
    written = written.replace('"Python API" = []', f'"Python API" = [{"".join(lines)}]')
    return written.replace("\n]\n", f'\n  {{ "More" = [{", ".join(more)}] }},\n]\n', 1) if more else written


def build(folder: Path, *, execute: bool) -> None:
    """Write the site's sources to ``folder/docs``, its configuration next to them, and the site to ``folder/site``.

    Args:
        folder: where to; what is in its ``tutorials`` and ``api`` is used again.
        execute: whether to execute the tutorials and the examples.

    Raises:
        subprocess.CalledProcessError: a page that is linked to does not exist.
    """
    pages = sources()
    shutil.rmtree(folder / "docs", ignore_errors=True)
    shutil.copytree(DOCS / "pictures", folder / "docs" / "pictures")
    shutil.copy(DOCS / "site.css", folder / "docs")
    for name in pages:
        path = folder / "docs" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(page(name, pages), encoding="utf-8")
    joma.explore().write(folder / "docs" / "explorer.html")
    start = folder / "docs" / "index.md"
    start.write_text(start.read_text(encoding="utf-8").replace("**Start here**", f"{_EXPLORER}**Start here**"))
    if execute:
        tutorials.write(list(tutorials.TUTORIALS), folder / "tutorials")
        examples.write(dir(joma), folder / "api")
        for made in ("tutorials", "api"):
            marks = shutil.ignore_patterns("*.digest")
            shutil.copytree(folder / made, folder / "docs" / made, ignore=marks, dirs_exist_ok=True)
    (folder / "zensical.toml").write_text(settings(), encoding="utf-8")
    subprocess.run([ZENSICAL, "build", "--clean", "--strict", "-f", folder / "zensical.toml"], check=True)


if __name__ == "__main__":
    build(ROOT / "build", execute="--draft" not in sys.argv)
