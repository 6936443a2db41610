"""The explorer, one page to move the theory by hand next to a run: what ``joma explore`` and ``joma.explore`` do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from joma.errors import BadInput
from joma.files import expanded
from joma.studies.explore_parts import evidence_in, sentence_part
from joma.studies.explorer import CLAIMS_FILE, Claims, Explorer, explorer, run_of, tree_of
from joma.studies.measurements import read_measurements
from joma.studies.sentence import sentence as read_sentence


def explore(run: str | Path | None = None, *, sentence: str | None = None) -> Explorer:
    """Make a page in which the theory's solution can be moved by hand, next to a training run, a hierarchy and claims.

    What ``run`` does not have comes from small examples that are shipped with joma.

    >>> import joma
    >>> page = joma.explore().write("explore.html")
    >>> page.stat().st_size < 400_000
    True

    Args:
        run: a folder: measurements as ``joma.show`` reads them, an output folder of ``joma.reproduce`` (its claims are
            shown, too), or a run of ``joma tree train``; ``None`` for the examples.
        sentence: 2 to 64 tokens whose attention is shown over the saved steps of ``run``.

    Raises:
        BadInput: a folder with nothing to show, or a sentence without a run, or one that cannot be read there.
    """
    if run is None and sentence is not None:
        problem = "`sentence` has no effect without a run"
        raise BadInput(problem, expected="a folder with saved steps", remedy="name one, or leave it out")
    return explorer({}) if run is None else explorer(*_of_folder(expanded(run), sentence))


def _of_folder(folder: Path, sentence: str | None) -> tuple[dict[str, Any], Claims | None]:
    """Return the parts that a folder has, and its claims."""
    parts = tree_of(folder)
    claims = evidence_in(folder / CLAIMS_FILE) if (folder / CLAIMS_FILE).exists() else None
    try:
        table, notes = read_measurements([folder])
    except BadInput:
        if claims is None and not parts:
            raise
    else:
        parts |= run_of(table, str(folder), notes)
    if sentence is not None:
        if "run" not in parts:
            problem = f"`sentence` has no effect on {folder}, which has no attention entropy"
            raise BadInput(problem, expected="a training run that was measured", remedy="leave it out")
        read = read_sentence(folder, sentence)
        parts["run"]["sentence"] = sentence_part(read.text, read.tokens, read.weights)
    if not parts and claims is None:
        raise BadInput(
            f"{folder} has no attention entropy, no latents and no claims",
            expected="a training run that was measured",
            remedy="watch one with joma.watch(..., out=FOLDER), or leave out the folder to see the examples",
        )
    return parts, claims
