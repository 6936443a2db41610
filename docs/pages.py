"""Write the pages of the documentation that are generated from the code: ``.venv/bin/python docs/pages.py``."""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, is_typeddict

import joma
from joma.claims.claim import Claim
from joma.claims.registry import OWN
from joma.metrics import METRICS, Queries

_CLAIMS = """# Claims

Generated from the registry by `python docs/pages.py`. The verdicts are not written here: `joma reproduce` evaluates the
claims on your machine and your text. The meaning of the verdicts is explained in [reproduce.md](reproduce.md).
"""


def claims_page(claims: Iterable[Claim]) -> str:
    """Return every claim with its formula, source, assumptions, test and control, as Markdown."""
    return "\n".join([_CLAIMS, *(_section(claim) for claim in claims)])


def _section(claim: Claim) -> str:
    reference = claim.reference
    conditions = "".join(f"; {condition}" for condition in claim.conditions)
    return f"""## {claim.id}

{reference.statement}

    {reference.formula}

- **Source**: {reference.source}
- **Assumes**: {"; ".join(reference.assumptions)}
- **Test**: {claim.test}
- **Control**: {claim.control}
- **Run it**: `joma reproduce {claim.id}`{conditions}
"""


_METRICS = """# Metrics

A name has the same meaning in the tables of `joma.watch`, of `joma scan`, and of joma's own training runs.
This page is generated from the code by `python docs/pages.py`.

Tables are tidy: one row per number, columns `run`, `step`, `layer`, `head`, `projection`, `metric`, `value`. Layers and
heads count from 0, and are null where a metric has none. `projection` names the weight matrix of a metric of weights
(`query`, `key`, `value`, `output`, `mlp_lower`, `mlp_gate`, `mlp_upper`). Three columns exist only if they are not
empty: `group` names a part of the probe (`sequences_3`, `positions_1_8`; null: all of it) or an expert (`expert_3`,
`shared_expert`, or `dense` for an MLP next to them; null: the mean over experts, without shared ones), `reason`
explains why a step has no numbers, and `suspect` names the problems of a step. Tables of runs of a grid may have
columns with their settings too: `learning_rate`, `num_layers`, `width`, `batch_size`, `num_steps`, `num_epochs`,
`seed`, and `status`, what became of a run (`finished`, `failed`, `unfinished`). Tables of different sources can be
concatenated in pandas. Activations and gradients are measured only if they are named; `all` leaves them out. A watch
has `train_loss_nats` where its loop passes losses, `probe.step(loss=loss)`.

| name | meaning | unit | source | over queries | measured by |
|---|---|---|---|---|---|
"""

_QUERIES: dict[Queries, str] = {
    "all": "mean over all that see a key and are not padding",
    "spreading": "mean over those that see two keys or more",
    "largest": "maximum over all that see a key and are not padding",
    "": "–",
}


def metrics_page() -> str:
    """Return every metric with its meaning, unit and source, as Markdown."""
    rows = (
        f"| `{metric.name}` | {metric.meaning} | {metric.unit or '–'} | {metric.source} | "
        f"{_QUERIES[metric.queries]} | {', '.join(metric.measured_by)} |\n"
        for metric in METRICS.values()
    )
    return _METRICS + "".join(rows)


_API = """# Public names

The names that `import joma` provides; `dir(joma)` shows the same list, and `help(joma.scan)` the same text. All other
names may change. These pages are generated from the docstrings by `python docs/pages.py`. Every example is executed. A
test fails if it prints something else; on the site its output and pictures are those of the run that built the page.

"""

_SECTION = re.compile(r"^(Args|Returns|Raises|Yields):$", re.MULTILINE)


def api_index() -> str:
    """Return the list of public names in their groups, as Markdown."""
    stub = (Path(joma.__file__).with_suffix(".pyi")).read_text(encoding="utf-8")
    lines = []
    for line in stub.splitlines():
        if line.startswith("# "):
            lines.append(f"\n## {line[2:]}\n\n")
        elif found := re.search(r" as (\w+)$", line):
            first = (inspect.getdoc(getattr(joma, found[1])) or "").split("\n\n")[0].replace("\n", " ")
            lines.append(f"- [`joma.{found[1]}`]({found[1]}.md): {first.replace('``', '`')}\n")
    return _API + "".join(lines).lstrip("\n")


def api_page(name: str, docstring: str = "") -> str:
    """Return the page of one public name, as Markdown: signature, docstring, example.

    ``docstring`` is shown in place of the one in the code: the same with outputs of this time (docs/examples.py).
    """
    thing = getattr(joma, name)
    text = _markdown(docstring or inspect.getdoc(thing) or "")
    page = f"# joma.{name}\n\n```python\njoma.{name}{_signature(thing)}\n```\n\n{text}\n"
    return page + "".join(_settings(thing))


def _settings(thing: Any) -> Iterator[str]:
    """Yield a section for each ``TypedDict`` of the keyword arguments ``**settings`` of a signature."""
    for given in inspect.signature(thing).parameters.values():
        if named := re.fullmatch(r"Unpack\[(\w+)\]", str(given.annotation)):
            module = vars(sys.modules[thing.__module__])
            for part in filter(is_typeddict, module.values()):
                if part.__annotations__.keys() <= module[named[1]].__annotations__.keys():
                    yield f"\n## {part.__name__}\n\n{_markdown(inspect.getdoc(part) or '')}\n"


class _Bare(str):
    """A postponed annotation, which a signature would show in quotes."""

    __repr__ = str.__str__


def _signature(thing: Any) -> str:
    """Return the signature, with one parameter per line if it is long."""
    found = inspect.signature(thing)
    simple = (bool, int, float, str, type(None), type)
    plain = [
        given.replace(
            annotation=_Bare(given.annotation) if isinstance(given.annotation, str) else given.annotation,
            default=given.default if type(given.default) in simple else ...,
        )
        for given in found.parameters.values()
    ]
    returned = _Bare(found.return_annotation) if isinstance(found.return_annotation, str) else found.return_annotation
    shown = str(found.replace(parameters=plain, return_annotation=returned))
    signature = shown.replace("joma.", "").replace("Ellipsis", "…").replace("'", '"')
    return signature if len(signature) < 80 else re.sub(r"(?<=[,(]) ?(?=[\w*]+[:,=)]|/|\*)", "\n    ", signature)


def _markdown(docstring: str) -> str:
    """Convert a docstring to Markdown: examples as code, sections as lists."""
    parts = []
    for block in docstring.split("\n\n"):
        if block.lstrip().startswith(">>>"):
            parts.append(f"```python\n{block}\n```")
        elif found := _SECTION.match(block.split("\n")[0]):
            entries = textwrap.dedent(block.split("\n", 1)[1])
            listed = (
                re.sub(r"^(?=\S)", "- ", entries, flags=re.MULTILINE) if found[1] in ("Args", "Raises") else entries
            )
            listed = re.sub(r"^- ([^:]+):", r"- `\1`:", listed.replace("``", "`"), flags=re.MULTILINE)
            parts.append(f"**{found[1]}**\n\n{listed}")
        else:
            parts.append(block.replace("``", "`"))
    return "\n\n".join(parts)


PAGES = {
    "claims.md": lambda: claims_page(OWN),
    "metrics.md": metrics_page,
    "api/index.md": api_index,
    **{f"api/{name}.md": lambda name=name: api_page(name) for name in dir(joma)},
}
"""The pages by file name."""

if __name__ == "__main__":
    for name, page in PAGES.items():
        path = Path(__file__).parent / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(page(), encoding="utf-8")
