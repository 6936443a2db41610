"""``joma tree sample``: draw samples, print some, write them all."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse.typing import PositiveInt

from joma.cli.output import conclude, folder_of, show
from joma.cli.parsing import Parser
from joma.cli.tree.laws import add_law_options, law_of
from joma.errors import BadInput

if TYPE_CHECKING:
    from joma.problem.tree import Law, Samples
    from joma.progress import Progress

FORMATS = {"jsonl": "samples.jsonl", "parquet": "samples.parquet", "dataset": "dataset/"}
"""What ``--format`` leaves in the folder."""


def add_options(parser: Parser) -> None:
    """Add the options of ``joma tree sample``."""
    add_law_options(parser)
    add = parser.add_argument
    add("--samples", type=PositiveInt, default=10, metavar="N", help="how many")
    parser.share("--seed", "--shuffled")
    add("--out", type=str, metavar="DIR", help="write law.json, all samples, and a picture of the first one there")
    add("--format", choices=list(FORMATS), help="of the samples in --out (default: jsonl); dataset is Hugging Face's")
    parser.share("--json")


def run(options: Any) -> int:
    """Draw, print, write, return the exit status."""
    folder = folder_of(options.out)
    if folder is None and options.format is not None:
        raise BadInput("--format has no effect without --out", expected="both", remedy="give --out, or leave it out")
    law = law_of(options)

    from joma.report.samples import law_text, sample_record, sample_table

    samples = _drawn(law, options)
    if folder is not None:
        _write(law, samples, folder, options)
    show(sample_record(law, samples, options.seed), [sample_table(law, samples)], as_json=options.json)
    files = ("law.json", FORMATS[options.format or "jsonl"], "sample.svg", "sample.png")
    conclude(f"{options.samples:,} samples of a {law_text(law)}", folder, files, as_json=options.json)
    return 0


def _drawn(law: Law, options: Any) -> Samples:
    import torch

    from joma.problem.tree import Samples
    from joma.report.progress import shown
    from joma.train.hierarchies import dataset_samples

    parts, done = [], 0
    with shown() as progress:
        for part in dataset_samples(law, options.samples, options.seed, shuffled=options.shuffled):
            progress("drawing samples", done, options.samples)
            parts.append(part)
            done += len(part.labels)
    presence, symbols = (
        tuple(torch.cat(level) for level in zip(*(getattr(part, name) for part in parts), strict=True))
        for name in ("presence", "symbols")
    )
    tokens, labels = (torch.cat([getattr(part, name) for part in parts]) for name in ("tokens", "labels"))
    return Samples(tokens, labels, presence, symbols)


def _write(law: Law, samples: Samples, folder: Path, options: Any) -> None:
    from joma.files import replacing
    from joma.problem.laws import hierarchy_of
    from joma.problem.random_hierarchy import RandomHierarchy
    from joma.report.drawing.hierarchies import write_present, write_symbols
    from joma.report.drawing.rows import rows_of
    from joma.report.progress import shown
    from joma.report.samples import present_rows, symbol_rows
    from joma.train.hierarchies import as_dataset, save_law

    save_law(law, folder / "law.json")
    if options.format in (None, "jsonl"):
        with shown() as progress, replacing(folder / "samples.jsonl") as path:
            _write_lines(law, samples, path, progress)
    else:
        dataset = as_dataset(law, options.samples, options.seed, shuffled=options.shuffled)
        with _quiet_datasets():
            if options.format == "parquet":
                with replacing(folder / "samples.parquet") as path:
                    dataset.to_parquet(str(path))
            else:
                dataset.save_to_disk(str(folder / "dataset"))
    levels = [f"level {level}" for level in range(len(law.level_sizes))]
    if isinstance(hierarchy_of(law), RandomHierarchy):
        alphabets = [*(law.num_tokens for _ in ("tokens", *levels)), law.num_labels]
        names = ["tokens", *levels, "label"]
        write_symbols(rows_of(law), symbol_rows(samples), alphabets, names, folder / "sample")
        return
    present = [row.tolist() for row in present_rows(law, samples)]
    names = [f"{law.num_tokens} tokens", *levels]
    top = f"label {int(samples.labels[0])}" if len(present[-1]) == 1 else f"{law.num_labels} classes"
    write_present(rows_of(law), present, [*names, top], folder / "sample")


@contextmanager
def _quiet_datasets() -> Generator[None]:
    """Keep bars away that appear for work of a moment."""
    import datasets

    were_shown = not datasets.utils.are_progress_bars_disabled()
    datasets.utils.disable_progress_bars()
    try:
        yield
    finally:
        if were_shown:
            datasets.utils.enable_progress_bars()


def _write_lines(law: Law, samples: Samples, path: Path, progress: Progress) -> None:
    from joma.report.samples import sample_row

    with path.open("w", encoding="utf-8") as file:
        for index in range(len(samples.labels)):
            file.write(f"{json.dumps(sample_row(law, samples, index))}\n")
            if index % 1000 == 0:
                progress("writing samples", index, len(samples.labels))
