"""Command lines and files of every kind that a user may send; a case is a call that must end well.

A kind is a Hypothesis strategy of cases. What files start from is made once per process, by ``made``.
"""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import torch

import joma
from fuzz_arguments import NUMBERS, WHOLE, Case
from joma.cli import main
from joma.simulate.trajectory import load_trajectory


def _typed(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)


LIST_WORDS = st.lists(NUMBERS.map(_typed), min_size=1, max_size=4).map(",".join) | st.sampled_from(
    [
        "",
        ",",
        "1:2",
        "0:1:0",
        "0:1:1e-300",
        "1:0:-0.5",
        "nan",
        "inf",
        "-inf",
        "1,2,x",
        "[1,2]",
        "[[1]]",
        "&a [*a]",
        "\x00",
        "٣",
        "1e999",
        "/",
    ]
)
SMALL = st.sampled_from(["1", "2", "3"]) | WHOLE.map(str) | st.sampled_from(["", "x", "1.5", "-1", "nan"])
REAL_WORD = NUMBERS.map(_typed) | st.sampled_from(["", "x", "nan", "inf", "-inf", "1e999", "1e-999"])

OPTIONS: dict[str, dict[str, st.SearchStrategy]] = {
    "solve": {
        **dict.fromkeys(("mu", "delta", "t", "v0"), LIST_WORDS),
        **dict.fromkeys(("gain", "temperature"), REAL_WORD),
        "attention": st.sampled_from(["softmax", "exp", "linear"]),
    },
    "simulate": {
        **dict.fromkeys(
            ("temperature", "coherence", "scale", "logit", "tolerance", "runge-kutta", "learning-rate"), REAL_WORD
        ),
        **dict.fromkeys(("seeds", "tokens", "classes", "hidden", "samples", "length", "queries", "batch-size"), SMALL),
        "num-steps": st.sampled_from(["1", "3", "0", "x"]),
        "t": st.sampled_from(["0,1", "0,1", "0,0.5,1"]) | LIST_WORDS,
        "attention": st.sampled_from(["linear", "exp", "softmax", "x"]),
        "activation": st.sampled_from(["identity", "tanh", "relu", "sigmoid"]),
        "loss": st.sampled_from(["cross_entropy", "squared_error", "constant_gradient"]),
        "method": st.sampled_from(["DOP853", "LSODA", "Radau"]),
        "optimizer": st.sampled_from(["sgd", "adam"]),
    },
    "tree sample": {
        "law": st.sampled_from(["latent-tree", "table", "random", "x", "none.json"]),
        **dict.fromkeys(("branching", "polarity", "levels", "members"), LIST_WORDS),
        **dict.fromkeys(("labels", "classes", "tokens", "length", "alternatives", "law-seed", "seed"), SMALL),
        **dict.fromkeys(("jitter", "show"), REAL_WORD),
        "samples": SMALL,
    },
    "tree cooccurrence": {
        **dict.fromkeys(("branching", "polarity"), LIST_WORDS),
        **dict.fromkeys(("labels", "label", "seed"), SMALL),
        "samples": st.sampled_from(["1", "50", "x", "0"]),
    },
    "reproduce --list": {"profile": st.text(max_size=4), "seeds": SMALL},
    "scan none": {
        "steps": LIST_WORDS,
        "revisions": st.text(max_size=4),
        "length": SMALL,
        "measures": st.text(max_size=5),
    },
}


@st.composite
def words(draw: Any) -> Case:
    """Draw a command line."""
    command = draw(st.sampled_from(sorted(OPTIONS)))
    options = draw(st.lists(st.sampled_from(sorted(OPTIONS[command])), max_size=5, unique=True))
    line = [*command.split(), *(f"--{option}={draw(OPTIONS[command][option])}" for option in options)]
    line += draw(st.sampled_from([[], [], [], ["--json"], ["--nothing"], ["word"], ["--config=nothing.yaml"]]))
    return Case(f"words: {command}", " ".join(line), lambda: main(line))


DEEP = [50_000 * "[", 50_000 * '{"a":', 5_000 * "[" + 5_000 * "]", "a: " * 3000, "&a [*a]", "- " * 4000]
TEXTS = (
    st.text(max_size=40)
    | st.sampled_from(
        [*DEEP, "[]", "null", "3", '"x"', "{}", "1e999", "true", "1," * 70_000, "1" * 200_000, '"' + "x" * 200_000]
    )
    | st.lists(NUMBERS, max_size=5).map(lambda values: ",".join(map(str, values)))
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner),
        max_leaves=9,
    ).map(json.dumps)
)


def _npy(shape: Any, descr: str, content: bytes) -> bytes:
    head = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}".encode()
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + content


CONTENTS = (
    TEXTS.map(lambda text: text.encode("utf-8", "replace"))
    | st.binary(max_size=60)
    | st.builds(
        _npy,
        st.sampled_from([(3,), (10**9,), (2**62,), (-1,), "x", (1,) * 70]),
        st.sampled_from(["<f8", "|O", "<U9", "<c16", "x"]),
        st.binary(max_size=40),
    )
)


@st.composite
def files(draw: Any) -> Case:
    """Draw a file of numbers, of options, or of a law."""
    content = draw(CONTENTS)
    name = draw(st.sampled_from(["n.txt", "n.csv", "n.json", "n.yaml", "n.npy", "n", "n.bin"]))
    line = draw(
        st.sampled_from(
            [
                ["solve", "--mu"],
                ["solve", "--mu=1", "--config"],
                ["tree", "sample", "--branching"],
                ["tree", "sample", "--law"],
            ]
        )
    )

    def run() -> int:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / (f"{name}.json" if line[-1] == "--law" else name)
            path.write_bytes(content)
            return main([*line[:-1], f"{line[-1]}={path}"])

    return Case(f"files: {' '.join(line)} {Path(name).suffix}", f"{line} {name} {content[:200]!r}", run)


@st.composite
def mutations(draw: Any, content: bytes) -> bytes:
    """Change a file as disks, kills, editors and attackers do."""
    how = draw(st.sampled_from(["flip", "flip", "cut", "text", "digit", "twice", "replace", "empty"]))
    at = draw(st.integers(0, max(0, min(len(content), 4000) - 1)))
    if how == "flip" and content:
        return content[:at] + bytes([content[at] ^ draw(st.integers(1, 255))]) + content[at + 1 :]
    if how == "digit" and content:
        digits = [n for n, byte in enumerate(content[:4000]) if chr(byte).isdigit()] or [0]
        where = draw(st.sampled_from(digits))
        return (
            content[:where]
            + draw(st.sampled_from([b"99999999999", b"-1", b"1e999", b"null", b'"x"', b"[]", b"{}"]))
            + content[where + 1 :]
        )
    if how == "replace":
        return content.replace(
            *draw(
                st.sampled_from(
                    [(b"[", b"{"), (b":", b": ["), (b"0", b"7"), (b'"', b"'"), (b"F32", b"I64"), (b"torch", b"os")]
                )
            ),
            1,
        )
    if how == "twice":
        return content + content[: draw(st.integers(0, len(content)))]
    return {"cut": content[:at], "text": draw(CONTENTS)}.get(how, b"")


_SMALL = ["--num-steps", "2", "--batch-size", "4", "--width", "8", "--hidden", "8", "--workers", "1"]
MADE_BY = {
    "run": ["tree", "train", *_SMALL, "--branching", "2,2"],
    "simulation": ["simulate", "--t", "0,1", "--tokens", "3", "--samples", "4"],
    "samples": ["tree", "sample", "--branching", "2,2"],
    "evidence": ["reproduce", "theorem2", "--seeds", "1", "--workers", "1"],
}
"""The command that writes each kept folder."""


@cache
def made(name: str) -> Path:
    """Make a folder once per process: one of ``MADE_BY``, or weight files of one format."""
    folder = Path(tempfile.mkdtemp(prefix="joma-fuzz-")) / name
    if name in MADE_BY:
        with contextlib.redirect_stdout(io.StringIO()):
            if main([*MADE_BY[name], "--out", str(folder)]) not in (0, 1):
                raise RuntimeError(f"{MADE_BY[name]} cannot be run")
    else:
        _write_weights(folder / "step1", name)
    return folder


def _write_weights(folder: Path, format: str) -> None:
    from transformers import GPT2Config, GPT2Model

    model = GPT2Model(GPT2Config(vocab_size=9, n_positions=8, n_embd=4, n_layer=1, n_head=2))
    folder.mkdir(parents=True)
    model.save_pretrained(folder, max_shard_size="1KB" if format == "shards" else "1GB")
    if format in ("zip", "legacy"):
        (folder / "model.safetensors").unlink()
        torch.save(model.state_dict(), folder / "pytorch_model.bin", _use_new_zipfile_serialization=format == "zip")


@st.composite
def _spoilt_folders(draw: Any, source: Path) -> tuple[str, Callable[[Path], None]]:
    """Draw one file of a folder and what becomes of it."""
    names = sorted(path.relative_to(source) for path in source.rglob("*") if path.is_file())
    name = draw(st.sampled_from(names))
    content = draw(mutations((source / name).read_bytes()))
    return f"{name} {content[:120]!r}", lambda folder: (folder / name).write_bytes(content) and None


KEPT: dict[str, Callable[[Path], Any]] = {
    "run": lambda folder: main(
        ["tree", "align", str(folder), "--samples", "20", "--permutations", "2", "--workers", "1"]
    ),
    "simulation": lambda folder: load_trajectory(folder / "trajectory.safetensors"),
    "samples": lambda folder: main(["tree", "sample", "--law", str(folder / "law.json"), "--samples", "2"]),
    "evidence": lambda folder: main(["reproduce", "theorem2", "--seeds", "1", "--workers", "1", "--out", str(folder)]),
}


def _in_copy(source: Path, spoil: Callable[[Path], None], run: Callable[[Path], Any]) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copytree(source, Path(folder) / source.name)
        spoil(copy)
        return run(copy)


@st.composite
def kept(draw: Any) -> Case:
    """Draw a folder that joma wrote, with one file changed, and the command that reads it."""
    name = draw(st.sampled_from(sorted(KEPT)))
    text, spoil = draw(_spoilt_folders(made(name)))
    return Case(f"kept: {name}", text, lambda: _in_copy(made(name), spoil, KEPT[name]))


def read_everything(folder: Path | str) -> None:
    """Open a series and read every tensor of every step."""
    series = joma.open_series(folder)
    for step in series.steps:
        series.read(step, list(series.checkpoint(step).tensors))


def _bomb(huge: int) -> bytes:
    """A pickle whose memo has a huge index, and a zip around it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}r" + min(huge, 2**32 - 1).to_bytes(4, "little") + b".")
        archive.writestr("archive/version", "3")
    return buffer.getvalue()


@st.composite
def weights(draw: Any) -> Case:
    """Draw the files of a saved step, one of them changed."""
    source = made(draw(st.sampled_from(["safetensors", "zip", "legacy", "shards"])))
    text, spoil = draw(_spoilt_folders(source))
    if draw(st.integers(0, 9)) == 0:
        content = draw(st.sampled_from([_bomb(2**31), pickle.dumps({"a": 10**9}), b"GGUF" + b"\xff" * 60]))
        text = f"{content[:60]!r}"

        def spoil(folder: Path) -> None:
            (folder / "step1" / "model.safetensors").unlink(missing_ok=True)
            (folder / "step1" / "pytorch_model.bin").write_bytes(content)

    return Case(f"weights: {source.name}", text, lambda: _in_copy(source, spoil, read_everything))
