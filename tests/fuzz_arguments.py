"""Calls of public functions with arguments of every kind: valid ones, ends of floating point, and other objects."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import torch

import joma


@dataclass(frozen=True)
class Case:
    """One input.

    Args:
        kind: its kind.
        text: what it is, for a report.
        run: what is called.
        is_finite: whether every number in it is finite, so that its answer may not be NaN.
    """

    kind: str
    text: str
    run: Callable[[], Any]
    is_finite: bool = False


ENDS = [
    0.0,
    -0.0,
    5e-324,
    -5e-324,
    1e-300,
    1e-16,
    0.5,
    1.0,
    -1.0,
    38.0,
    1e8,
    -1e8,
    1e150,
    -1e150,
    1e300,
    1.7e308,
    -1.7e308,
]
NUMBERS = st.sampled_from(ENDS) | st.floats(allow_nan=False, allow_infinity=False) | st.floats(-5, 5)
WHOLE = st.sampled_from([0, -1, 1, 2, 3, 7, 10**6, 2**31, 2**63, 10**30, -(2**70)]) | st.integers(0, 12)


@st.composite
def tensors(draw: Any, least: int = 0, most: int = 4) -> torch.Tensor:
    """Tensors of some axes of any few lengths, with numbers of any size."""
    shape = draw(st.lists(st.integers(0, 4) | st.just(3), min_size=least, max_size=most))
    size = math.prod(shape)
    values = draw(
        st.lists(NUMBERS, min_size=size, max_size=size) if size < 40 else st.just([0.1 * n for n in range(size)])
    )
    dtype = draw(st.sampled_from([torch.float64, torch.float64, torch.float32, torch.bfloat16, torch.float16]))
    return torch.tensor(values, dtype=torch.float64).reshape(shape).clamp(-3e38, 3e38).to(dtype)


def _endless() -> list:
    endless: list[Any] = [1.0]
    endless.append(endless)
    return endless


ODD: list[Callable[[], Any]] = [
    lambda: None,
    lambda: "",
    lambda: "1.0",
    lambda: b"1.0",
    lambda: True,
    lambda: 1j,
    lambda: math.nan,
    lambda: math.inf,
    lambda: 10**400,
    lambda: [],
    lambda: {},
    lambda: {"a": 1.0},
    lambda: {1.0, 2.0},
    lambda: object(),
    lambda: len,
    lambda: [[1.0], [1.0, 2.0]],
    lambda: [None, 1.0],
    lambda: ["a", 1.0],
    lambda: [math.nan, 1.0],
    _endless,
    lambda: Path("folder"),
    lambda: np.array(["a"]),
    lambda: np.array([None, 1.0]),
    lambda: np.array([1, 2]),
    lambda: np.array([True]),
    lambda: np.ones(3, dtype=np.longdouble),
    lambda: np.ones(3).astype(">f8"),
    lambda: np.ones((1,) * 40),
    lambda: np.datetime64("2020-01-01"),
    lambda: torch.ones(3).to_sparse(),
    lambda: torch.ones(3, 3).to_sparse_csr(),
    lambda: torch.ones(3, device="meta"),
    lambda: torch.ones(3, 3, device="meta"),
    lambda: torch.ones((1,) * 70),
    lambda: torch.ones(3, dtype=torch.int64),
    lambda: torch.ones(3, dtype=torch.complex64),
    lambda: torch.ones(3, dtype=torch.bool),
    lambda: torch.ones(3, 3).to(torch.float8_e4m3fn),
    lambda: torch.zeros(0),
    lambda: torch.zeros(2, 0, 3),
    lambda: torch.full((3, 3), math.nan),
    lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged),
]


def mostly(valid: st.SearchStrategy | list, wild: st.SearchStrategy) -> st.SearchStrategy:
    """Draw what a function takes in three of four cases."""
    usual = st.sampled_from(valid) if isinstance(valid, list) else valid
    return st.integers(0, 3).flatmap(lambda n: usual if n else wild)


def _drawn(shape: tuple[int, ...], size: float, seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * size).to(dtype)


SIZES = st.sampled_from([1.0, 1.0, 0.0, 1e-30, 20.0, 1e10, 1e30])
DTYPES = st.sampled_from([torch.float32, torch.float64, torch.bfloat16])
_SHAPES = st.tuples(st.integers(0, 2), st.integers(0, 4), st.integers(0, 9), st.integers(0, 5))


def _of_heads(**more: st.SearchStrategy) -> dict[str, st.SearchStrategy]:
    heads = mostly(
        st.builds(_drawn, st.just((2, 4, 6, 3)), SIZES, st.integers(0, 99), DTYPES),
        st.builds(_drawn, _SHAPES, SIZES, st.integers(0, 99)),
    )
    masks = tensors(0, 4) | st.just(_drawn((2, 1, 6, 6), 3.0, 1))
    masks = mostly([None, None, None, torch.ones(6, 6, dtype=torch.bool).tril()], masks)
    settings = {"scale": mostly([None, -1.0, 0.0, 0.5], NUMBERS), "is_causal": st.booleans(), "attn_mask": masks}
    return {"q": heads, "k": heads} | settings | more


VECTORS = st.lists(NUMBERS, min_size=3, max_size=3)
RATES, SOME = mostly(VECTORS, tensors(0, 2)), mostly(VECTORS | NUMBERS, tensors(0, 3))
TIMES = st.lists(NUMBERS.map(abs), min_size=3, max_size=3, unique=True).map(sorted)
TIMES = mostly(TIMES, tensors(0, 2).map(torch.abs))
_DYNAMICS = {"v0": mostly(st.just(0.0) | VECTORS, SOME), "gain": mostly([0.5, 1.0, 1e-3], NUMBERS | tensors(0, 1))}
_MILD = st.lists(st.floats(-5, 5), min_size=3, max_size=3)
_SHAPES_OF_MATRICES = st.sampled_from([(3, 4), (4, 3), (2, 5, 5)])
_MATRICES = mostly(st.builds(_drawn, _SHAPES_OF_MATRICES, SIZES, st.integers(0, 99), DTYPES), tensors(1, 3))
_TABLES = mostly(st.builds(_drawn, st.just((12, 3)), SIZES, st.integers(0, 99), DTYPES), tensors(1, 2))
COUNTS = mostly([1, 2, 3, 4], WHOLE)
LISTS = st.lists(WHOLE, max_size=4)
_SHARES = st.lists(st.floats(-1, 1) | NUMBERS, max_size=5)
_LAWS = mostly(
    [
        joma.RandomHierarchy(2, 2, 2, depth=2),
        joma.RandomHierarchy(2, 3, 2, depth=3, filtered_above=0),
        joma.balanced_tree((2, 1, 2), (1.0, 0.5, -1.0)),
        joma.random_hierarchy(3, (3,), num_tokens=5, show_probability=0.5),
    ],
    st.none() | NUMBERS | st.just("tree"),
)

ARGUMENTS: dict[str, dict[str, st.SearchStrategy]] = {
    "attention_entropy": _of_heads(normalized=st.booleans()),
    "attention_statistics": _of_heads(
        window=st.none() | WHOLE,
        softcap=st.none() | NUMBERS,
        sinks=st.none() | tensors(1, 1),
        share_window=st.none() | WHOLE,
    ),
    "first_token_share": _of_heads(),
    "key_share": _of_heads(
        keys=mostly([torch.arange(6) > 2], st.lists(st.booleans(), max_size=9).map(lambda k: torch.tensor(k).bool()))
    ),
    "stable_rank": {"weight": _MATRICES},
    "spectral_norm": {"weight": _MATRICES, "relative": mostly([1e-6, 1e-4], NUMBERS)},
    "effective_rank": {"weight": _MATRICES},
    "alignment": {
        "units": _TABLES,
        "latents": _TABLES,
        "num_permutations": COUNTS,
        "seed": COUNTS,
        "groups": mostly([None, [0, 1] * 6], LISTS),
    },
    "solve": {
        "t": TIMES,
        "mu": mostly(_MILD, st.none() | RATES),
        "delta": mostly([None], _MILD | RATES),
        "v0": mostly([0.0, 0.1], RATES | NUMBERS),
        "gain": mostly([0.5, 2.0], NUMBERS),
        "attention": mostly(["softmax", "exp"], st.just("linear")),
    },
    "blow_up_time": {"delta": SOME | _MILD, **_DYNAMICS},
    "linear_solution": {"delta": SOME | _MILD, "t": TIMES, **_DYNAMICS},
    "nonlinear_solution": {"mu": SOME | _MILD, "t": TIMES, **_DYNAMICS},
    "normalized_solution": {"mu": SOME | _MILD, "t": TIMES, **_DYNAMICS},
    "normalized_linear_solution": {"delta": SOME | _MILD, "t": TIMES, **_DYNAMICS},
    "sparsest_time": {"mu": RATES, **_DYNAMICS},
    "invariant": {
        "token_weights": mostly([_drawn((3, 2), 1.0, 0)], SOME),
        "attention_logits": mostly(VECTORS, SOME),
        "attention": st.sampled_from(["softmax", "exp", "linear", "Exp"]),
        "temperature": mostly([1.0], NUMBERS),
        "mean_attention": st.none() | SOME,
    },
    "cooccurrence": {
        "rho": tensors(0, 2) | st.floats(-1, 1) | st.floats(-1, 1),
        "rho0": tensors(0, 2) | st.floats(-1, 1) | st.floats(-1, 1),
        "depth": COUNTS,
        "ancestor_height": COUNTS,
        "label_sign": st.sampled_from([-1, 1, 0]),
    },
    "LatentTree": {
        "parents": mostly([[-1, 0, 0]], LISTS),
        "polarities": mostly([[0.0, 0.5, 0.5]], _SHARES),
        "label_signs": mostly([[[1, -1]]], st.lists(LISTS, max_size=3)),
        "label_probabilities": mostly([None], _SHARES),
    },
    "balanced_tree": {
        "branching": mostly([[2, 3], [1], [2, 2, 2]], LISTS),
        "polarities": mostly(st.floats(-1, 1), _SHARES),
        "num_labels": COUNTS,
        "seed": COUNTS,
        "jitter": mostly([0.0], NUMBERS),
    },
    "Combinatorial": {
        "members": mostly([[[[[0, 1]]]]], st.lists(st.lists(st.lists(LISTS, max_size=2), max_size=3), max_size=3)),
        "num_tokens": COUNTS,
        "length": mostly([30], WHOLE),
        "show_probability": mostly([1.0, 0.5], NUMBERS),
        "label_probabilities": mostly([None], _SHARES),
    },
    "random_hierarchy": {
        "num_classes": COUNTS,
        "level_sizes": mostly([[10, 20], [], [5]], LISTS),
        "set_size": mostly([2, 1], WHOLE | LISTS),
        "num_tokens": mostly([100, 10], WHOLE),
        "length": mostly([30], WHOLE),
        "num_alternatives": mostly([1, 2], WHOLE),
        "show_probability": mostly([1.0, 0.5], NUMBERS),
        "distinct_inputs": st.booleans(),
        "seed": COUNTS,
    },
    "RandomHierarchy": {
        "num_classes": COUNTS,
        "num_symbols": mostly([2, 4, 8], WHOLE),
        "num_synonyms": mostly([1, 2], WHOLE),
        "branching": mostly([2, 3], WHOLE),
        "depth": mostly([1, 2, 3], WHOLE),
        "seed": COUNTS,
        "uncorrelated": st.booleans(),
        "filtered_above": mostly([None, -1, 0], WHOLE),
    },
    "filtered": {"law": _LAWS, "level": mostly([-1, 0, 1], WHOLE | NUMBERS)},
    "posterior": {"law": _LAWS, "tokens": SOME | st.lists(LISTS, max_size=3) | st.just(torch.zeros(1, 4).long())},
    "exchange_synonyms": {
        "law": _LAWS,
        "samples": mostly([joma.RandomHierarchy(2, 2, 2, depth=2).sample(3, torch.Generator())], LISTS),
        "level": mostly([0, 1], WHOLE),
        "generator": mostly([torch.Generator()], NUMBERS),
    },
    "token_correlations": {"law": _LAWS, "label": st.none() | WHOLE},
    "tuple_label_correlations": {"law": _LAWS, "level": mostly([0, 1], WHOLE)},
    "correlation_threshold": {"law": _LAWS, "level": mostly([0, 1], WHOLE)},
    "sample_complexity": {"law": _LAWS},
    "ceiling_of": {"law": _LAWS},
    "open_series": {
        "source": st.text(max_size=9),
        "steps": st.none() | LISTS,
        "weights": st.none() | st.text(max_size=3),
    },
    "verify": {"source": st.text(max_size=9), "steps": st.none() | LISTS | st.text(max_size=5)},
    "scan": {
        "source": st.text(max_size=9),
        "steps": st.none() | LISTS | st.text(max_size=5),
        "length": st.none() | WHOLE,
    },
    "reproduce": {
        "claims": st.text(min_size=1, max_size=9),
        "profile": st.text(max_size=5),
        "seeds": st.none() | WHOLE,
    },
}
"""The public functions that take a user's numbers, files or names, and what they are given."""

_POSITIONAL = {"reproduce": "claims"}
_NECESSARY = {"solve": {"t"}, "scan": {"source"}, "verify": {"source"}, "open_series": {"source"}}


@st.composite
def arguments(draw: Any) -> Case:
    """Draw a call of a public function, mostly with arguments of the right kind, some of them odd."""
    name = draw(st.sampled_from(sorted(ARGUMENTS)))
    given = {key: draw(strategy) for key, strategy in ARGUMENTS[name].items()}
    if odd := draw(st.sampled_from([[], []]) | st.lists(st.sampled_from(sorted(given)), max_size=2)):
        given |= {key: draw(st.sampled_from(ODD))() for key in odd}
    first = given.pop(_POSITIONAL[name]) if name in _POSITIONAL else None
    words = [] if first is None else [first]
    text = f"{name}({', '.join(f'{key}={value!r}' for key, value in given.items())})"
    return Case(f"arguments: {name}", text, lambda: getattr(joma, name)(*words, **given), not odd)
