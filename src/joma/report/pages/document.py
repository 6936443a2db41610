"""One HTML file from a template: it works offline, and no text in it is taken for HTML."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from joma.files import replacing
from joma.report.drawing import words
from joma.report.drawing.looks import DARK, LIGHT


def document(template: str, title: str, plots: Mapping[str, Any], **content: Any) -> str:
    """Fill in a template of this room.

    Args:
        template: its file name.
        title: of the window, and the first heading.
        plots: what plotly gets, by the key that a plot's place names.
        content: the template's variables.

    Raises:
        jinja2.UndefinedError: the template names something that there is not.
        ValueError: NaN or infinity in a plot, which JSON does not have.
    """
    from plotly.offline import get_plotlyjs

    fixed = {"light": LIGHT, "dark": DARK, "style": Markup(_asset("page.css"))}
    scripts = [Markup(script) for script in (get_plotlyjs(), _asset("page.js"))]
    return environment().get_template(template).render(title=title, plots=plots, scripts=scripts, **fixed, **content)


def write_document(html: str, path: Path) -> Path:
    """Write a page, replacing the file whole.

    Raises:
        OSError: the file cannot be written; what stood there before is unchanged.
    """
    with replacing(path) as temporary:
        # A file's name may hold bytes that are no text; it is shown escaped and does not cost the page.
        temporary.write_bytes(html.encode(errors="backslashreplace"))
    return path


@cache
def environment() -> Environment:
    """The templates of this room: whatever is filled in is escaped, and a name that is not there is an error."""
    found = Environment(
        loader=PackageLoader("joma.report.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    found.filters |= {
        "capitalized": words.capitalized,
        "criterion": words.format_criterion,
        "digest": _digest,
        "estimate": words.format_estimate,
        "interval": words.format_interval,
        "moment": _moment,
        "num": words.format_num,
        "percent": "{:.2f}%".format,
        "seconds": words.format_seconds,
        "verdict": words.verdict_text,
    }
    return found


def _asset(name: str) -> str:
    return files("joma.report.pages").joinpath("assets", name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M %Z}".rstrip()
