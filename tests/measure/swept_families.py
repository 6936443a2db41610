"""Measure every family that transformers builds from a small random configuration, and compare with its own weights.

    PYTHONPATH=tests python tests/measure/swept_families.py [FAMILY ...] >> results.txt
    PYTHONPATH=tests python tests/measure/swept_families.py --page < results.txt

The first prints the results of all families or of those that are named, so that several processes can share them; the
second writes docs/families.md from them.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, nullcontext
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from small_families import MOST_PARAMETERS, SIDES, NotBuilt, built
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from joma.errors import BadInput, InvalidArgument, cause_of
from joma.measure.capture.outputs import agree
from joma.measure.watch.probing import AttentionProbe
from tolerances import TOLERANCES

PAGE = Path(__file__).parents[2] / "docs" / "families.md"
_PAGE = """# Families

Of {num} families that transformers {version} builds from a small random configuration, {right} are measured right
({texts} with texts that are padded nowhere, on the right and on the left; {images} with images alone), {refused} are
refused with a reason, {different} are measured wrong, and {without} return no weights to compare with.

What `joma.watch` measures, the mean entropy of every head over queries that are not padding, is compared with that of
the attention weights that the same model returns with eager attention, in float64. Results: right (to 1e-5 nats; 1e-3
in float32, for families that do not run in float64), refused, different, or – (nothing to compare with).

This page is written by `PYTHONPATH=tests python tests/measure/swept_families.py > results.txt` (about 10 minutes) and
`PYTHONPATH=tests python tests/measure/swept_families.py --page < results.txt`. The test
`pytest -m slow tests/measure/capture/test_swept_families.py` compares it with what it finds; the suite does so for a
few families.

| family | no padding | right | left | reason, or what was compared |
|---|---|---|---|---|
"""
_LEFT_OUT = f"""Another {{num}} are not compared: a package is missing, or no small configuration is known with which
they have at most {MOST_PARAMETERS:,} parameters and read texts or images, with eager attention too:
"""

_NOTES = {
    "granite_swa": "with sinks of −100, which the weights that it returns leave out",
    "granitemoe_swa": "with sinks of −100, which the weights that it returns leave out",
    "t5gemma2": "joins the weights of one softmax, which it returns in two parts",
}
"""Families whose returned weights are not those that attend, with what is done."""


class Found(NamedTuple):
    """What was measured of one family on one batch.

    Args:
        result: ``right``, ``refused``, ``different``, or ``–`` if there is nothing to compare with.
        reason: of the result, unless it is ``right``.
    """

    result: str
    reason: str = ""


@cache
def kinds() -> list[str]:
    """Return the types of all models of transformers."""
    from transformers import CONFIG_MAPPING, MODEL_MAPPING
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return sorted(kind for kind in CONFIG_MAPPING_NAMES if CONFIG_MAPPING[kind] in MODEL_MAPPING)


def sweep(kind: str) -> dict[str, Found]:
    """Measure a family on texts that are padded nowhere, on the right and on the left, or on images.

    Raises:
        NotBuilt: with the reason.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, eager, batches = built(kind)
        for name, part in [*model.named_parameters(), *eager.named_parameters()]:
            if "sinks" in _NOTES.get(kind, "") and name.endswith("sinks"):
                nn.init.constant_(part, -100)
        found = {side: _compared(model, eager, batch) for side, batch in batches.items()}
    return {side: each._replace(reason=each.reason or _NOTES.get(kind, "")) for side, each in found.items()}


class _FiniteScores(TorchFunctionMode):
    """Raises hidden scores to the lowest number of float32, in which eager attention takes its softmax.

    The lowest number of float64 becomes −inf there, and a query without a key NaN.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.softmax, torch.nn.functional.softmax, Tensor.softmax):
            args = (args[0].clamp_min(torch.finfo(torch.float32).min), *args[1:])
        return func(*args, **(kwargs or {}))


def _compared(model: Any, eager: Any, batch: dict[str, Tensor]) -> Found:
    """Measure a model on a batch, and compare mean entropies with those of eager's weights."""
    try:
        with _FiniteScores() if model.config._attn_implementation == "eager" else nullcontext():
            rows = AttentionProbe(model, batch).rows()
    except (BadInput, InvalidArgument) as error:
        return Found("refused", error.problem)
    except Exception as error:  # noqa: BLE001 (a failure without a reason is a result)
        return Found("different", f"it fails ({cause_of(error)})")
    found: dict[int, list[float]] = {}
    for row in rows:
        if row.metric == "attention_entropy_nats":
            found.setdefault(row.layer, []).append(row.value)
    measured = [torch.tensor(values).double() for values in found.values()]
    try:
        expected, joined = _expected(eager, batch)
    except Exception as error:  # noqa: BLE001 (any error of transformers is a reason)
        return Found("–", f"its eager attention fails ({cause_of(error)})")
    if not expected:
        return Found("–", "it returns no attention weights")
    allowed = TOLERANCES["attention.entropy" if model.dtype == torch.float64 else "sweep.single"].bound
    num_returned = sum(map(len, expected))
    if not agree_in_order(measured, expected, allowed):
        if agree_in_order(measured, joined, allowed):
            return Found("right", f"{len(measured)} modules attend {num_returned} times")
        with torch.no_grad():
            is_same = agree(model(**batch), eager(**batch), _kept(batch))
        if model is eager or is_same:
            return Found("different", _difference(measured, [layer for layers in expected for layer in layers]))
        return _compared(eager, eager, batch)._replace(reason="with eager attention: sdpa computes something else")
    return Found("right", f"{len(measured)} of {num_returned} layers" if len(measured) < num_returned else "")


def _kept(batch: dict[str, Tensor]) -> Tensor | None:
    mask = batch.get("decoder_attention_mask", batch.get("attention_mask"))
    return None if mask is None else mask.bool()


def agree_in_order(measured: list[Tensor], expected: list[list[Tensor]], allowed: float) -> bool:
    """Whether measured layers are those that a model returns, in the order of each part of the model.

    Some layers may not be observed, and a model may not return the weights of a layer that pools.
    """
    left = [(part, place, layer) for part, layers in enumerate(expected) for place, layer in enumerate(layers)]
    num_matched, reached = 0, [-1] * len(expected)
    for ours in measured:
        for part, place, theirs in left:
            if place > reached[part] and _distance(ours, theirs) <= allowed:
                num_matched, reached[part] = num_matched + 1, place
                break
    return num_matched == min(len(measured), len(left)) > 0


def _distance(ours: Tensor, theirs: Tensor) -> float:
    return (ours - theirs).abs().max().item() if ours.shape == theirs.shape else math.inf


def _difference(measured: list[Tensor], expected: list[Tensor]) -> str:
    if len(measured) != len(expected):
        return f"{len(measured)} layers measured, {len(expected)} returned"
    return f"{max(map(_distance, measured, expected)):.2g} nats"


@torch.no_grad()
def _expected(eager: Any, batch: dict[str, Tensor]) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
    """Return mean entropies (H,) over queries that are not padding, for each part of a model.

    Returns:
        Those of each returned layer, and those of each module, as means over its calls.
    """
    owners: dict[int, tuple[Any, nn.Module]] = {}  # what was returned, kept so that ids last, and the innermost module

    def record(module: nn.Module, _: Any, output: Any) -> None:
        for each in output if isinstance(output, tuple) else ():
            owners.setdefault(id(each), (each, module))

    with ExitStack() as stack:
        for module in eager.modules():
            stack.callback(module.register_forward_hook(record).remove)
        stack.enter_context(_FiniteScores())
        output = eager(**batch, output_attentions=True)
    mask, decoder_mask = (batch.get(f"{of}attention_mask") for of in ("", "decoder_"))
    expected, joined = [], []
    for part in _parts(output):
        for name in ("attentions", "encoder_attentions", "decoder_attentions", "cross_attentions"):
            is_decoder = name.startswith(("decoder", "cross")) and decoder_mask is not None
            layers = [layer for layer in part.get(name) or () if isinstance(layer, Tensor) and layer.dim() == 4]
            values = [_mean_entropies(layer, decoder_mask if is_decoder else mask) for layer in layers]
            of_modules: dict[int, list[Tensor]] = {}
            for layer, value in zip(layers, values, strict=True):
                of_modules.setdefault(id(owners.get(id(layer), (layer, layer))[1]), []).append(value)
            if values:
                expected.append(values)
                joined.append([torch.stack(calls).mean(0) for calls in of_modules.values()])
    return expected, joined


def _parts(output: Any) -> Iterator[dict[str, Any]]:
    """Yield an output and all those nested in it, with weights that are parts of one softmax joined."""
    selves, crosses = (output.get(f"{name}_attentions") or () for name in ("decoder", "cross"))
    if crosses and (selves[0].sum(-1) < 1 - 1e-5).any():
        joined = tuple(torch.cat(both, -1) for both in zip(selves, crosses, strict=True))
        yield {**output, "decoder_attentions": joined, "cross_attentions": None}
    else:
        yield output
    for value in output.values():
        if isinstance(value, dict):
            yield from _parts(value)


def _mean_entropies(weights: Tensor, mask: Tensor | None) -> Tensor:
    """Return (H,) mean entropies; a missing share of a query's weights is that of a sink."""
    weights = weights.double()
    sink = 1 - weights.sum(-1)
    entropies = torch.special.entr(weights).sum(-1) + torch.special.entr(sink.where(sink > 1e-5, 0))
    is_of_texts = mask is not None and weights[:, 0, :, 0].shape == mask.shape
    counted = mask[:, None] if is_of_texts else torch.ones(len(weights), 1, weights.shape[2])
    return (entropies * counted).nan_to_num(0).sum((0, 2)) / counted.sum()


def line_of(kind: str) -> str:
    """Return the row of a family in the table, or why there is none."""
    try:
        results = sweep(kind)
    except NotBuilt as error:
        return f"{kind}: {str(error).partition(chr(10))[0]}"
    reason = "; ".join(dict.fromkeys(found.reason for found in results.values() if found.reason))
    cells = (results[side].result if side in results else "" for side in SIDES)
    return f"| `{kind}` | {' | '.join(cells)} | {reason} |"


def page_of(results: Iterable[str]) -> str:
    """Return the page with the results of all families.

    Args:
        results: what ``main`` printed for them.
    """
    import transformers

    lines = {line.split("`")[1] if line.startswith("|") else line.partition(":")[0]: line.strip() for line in results}
    if missing := set(kinds()) - lines.keys():
        raise SystemExit(f"there are no results of {', '.join(sorted(missing))}")
    rows = {kind: lines[kind] for kind in kinds() if lines[kind].startswith("|")}
    cells = [[cell.strip() for cell in row.split(" | ")[1:4]] for row in rows.values()]
    right = [sides for sides in cells if set(sides) <= {"right", ""}]
    counts = {name: sum(name in sides for sides in cells) for name in ("refused", "different")}
    counts |= {"num": len(rows), "right": len(right), "texts": right.count(["right"] * 3)}
    counts |= {"images": len(right) - counts["texts"], "without": sum("–" in sides for sides in cells)}
    left_out = [f"`{kind}`" for kind in kinds() if kind not in rows]
    page = _PAGE.format(version=transformers.__version__, **counts)
    return page + "\n".join([*rows.values(), "", _LEFT_OUT.format(num=len(left_out)), ", ".join(left_out), ""])


def main(chosen: list[str]) -> None:
    """Print the results of all families or some, or write the page from printed ones."""
    import transformers

    if chosen == ["--page"]:
        PAGE.write_text(page_of(sys.stdin), encoding="utf-8")
        return
    transformers.logging.set_verbosity_error()
    for kind in chosen or kinds():
        print(line_of(kind), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
