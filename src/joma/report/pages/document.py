"""HTML pages from templates: one file that works offline, with all texts escaped."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from joma.files import replacing
from joma.report.drawing import words
from joma.report.drawing.looks import DARK, LIGHT
from joma.terminal import printable

EXPLORER = "explorer.html"
"""The explorer next to a report, to which every page of ``layout.html`` has a link."""

_ARXIV = re.compile(r"\barXiv (\d{4}\.\d{5})\b")


def document(template: str, title: str, plots: Mapping[str, Any], *, assets: Sequence[str] = (), **content: Any) -> str:
    """Render a template of this package.

    Args:
        template: its file name.
        title: of the window, and the first heading.
        plots: plotly specifications, by the keys used in the template; a page without any contains no script.
        assets: style sheets and scripts of a page that draws ``plots`` itself, in place of plotly.
        content: the variables of the template.

    Raises:
        jinja2.UndefinedError: the template uses an undefined variable.
        ValueError: NaN or infinity in a plot, which JSON does not have.
    """
    style = "".join(_asset(name) for name in ("page.css", *assets) if name.endswith(".css"))
    fixed = {"light": LIGHT, "dark": DARK, "explorer": EXPLORER, "style": Markup(style)}
    scripts = [Markup(_asset(name)) for name in assets if name.endswith(".js")]
    if plots and not assets:
        from plotly.offline import get_plotlyjs

        scripts = [Markup(script) for script in (get_plotlyjs(), _asset("page.js"))]
    return environment().get_template(template).render(title=title, plots=plots, scripts=scripts, **fixed, **content)


def write_document(html: str, path: Path) -> Path:
    """Write a page atomically; on an ``OSError`` an existing file is unchanged."""
    with replacing(path) as temporary:
        # A file name may hold bytes that are not valid text; these are written as escapes.
        temporary.write_bytes(html.encode(errors="backslashreplace"))
    return path


@cache
def environment() -> Environment:
    """Return the template environment: variables are escaped, and undefined ones raise an error.

    Characters that turn the direction of what follows them are shown as escapes, as in a terminal.
    """
    found = Environment(
        loader=PackageLoader("joma.report.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    found.filters |= {
        "capitalized": words.capitalized,
        "criterion": words.format_criterion,
        "digest": _digest,
        "estimate": words.format_estimate,
        "explanation": words.explanation,
        "interval": words.format_interval,
        "moment": _moment,
        "num": words.format_num,
        "prose": words.prose,
        "percent": "{:.2f}%".format,
        "seconds": words.format_seconds,
        "sourced": _sourced,
        "verdict": words.verdict_text,
    }
    return found


def _asset(name: str) -> str:
    return files("joma.report.pages").joinpath("assets", *name.split("/")).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _sourced(source: str) -> Markup:
    """A source with links to the papers on arXiv that it names."""
    text = str(escape(printable(source)))
    return Markup(
        _ARXIV.sub(r'<a href="https://arxiv.org/abs/\1" rel="noreferrer">arXiv \1</a>', text)
    )  # escaped above


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M %Z}".rstrip()
