"""Hugging Face tokenizers, by file, folder or name on the hub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from joma.errors import BadInput, InvalidArgument, cause_of
from joma.train.text.files import missing

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SPECIAL = ("<|endoftext|>", "<|padding|>")
"""What ends a text and what fills up a batch: tokens 0 and 1 of a tokenizer that is learned here."""

_PIECE = 100_000
"""Characters tokenised at once; pieces end with a line, are cut in parallel, and bound the memory it takes."""


def encoded(
    train: str, held_out: str, name: str, *, keep_ids: bool = False
) -> tuple[torch.Tensor, torch.Tensor, tuple[str, ...], int | None]:
    """Both parts of a text as ids of a tokenizer, numbered anew so that every id occurs.

    Args:
        train, held_out: the text.
        name: a ``tokenizer.json``, a folder, or a name on the hub.
        keep_ids: number tokens as the tokenizer does instead, those that never occur included.

    Returns:
        ids of either part, (T,) int64; the tokens by id, in the tokenizer's order; the id of its unknown token,
        or ``None`` where it has none or never needed it.
    """
    tokenizer = load_tokenizer(name)
    parts = [_ids(tokenizer, part) for part in (train, held_out)]
    if keep_ids:
        names = tuple(map(str, tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))))
        return parts[0], parts[1], names, tokenizer.unk_token_id
    used, compact = torch.unique(torch.cat(parts), return_inverse=True)
    vocabulary = tuple(str(token) for token in tokenizer.convert_ids_to_tokens(used.tolist()))
    at = (used == tokenizer.unk_token_id).nonzero() if tokenizer.unk_token_id is not None else used[:0]
    unknown = int(at[0]) if len(at) else None
    return compact[: len(parts[0])], compact[len(parts[0]) :], vocabulary, unknown


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of that name; code that a repository brings along is never run.

    Raises:
        BadInput: no such file, a file that is no tokenizer, a name the hub does not have or cannot be asked for.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    path = Path(name).expanduser()
    local = path.exists()
    if not local and (path.is_absolute() or path.suffix == ".json" or name.startswith(".")):
        raise missing(path)
    try:
        if path.is_file():
            return PreTrainedTokenizerFast(tokenizer_file=str(path))
        tokenizer = AutoTokenizer.from_pretrained(str(path) if local else name, trust_remote_code=False)
    except Exception as error:
        # The Rust library raises bare Exception for a file it cannot read.
        raise BadInput(
            f"cannot load the tokenizer {name!r} ({cause_of(error)})",
            expected="a tokenizer.json, a folder that holds one, or the name of a model on the hub",
            remedy="check the file" if local else "check the name and the network, or give a local tokenizer.json",
        ) from error
    if tokenizer is None:
        raise BadInput(
            f"the model {name!r} has no tokenizer", expected="a model that reads text", remedy="give another name"
        )
    return tokenizer


def learned_tokenizer(text: str, size: int) -> str:
    """A byte-level tokenizer of a text (byte pairs), as the content of a ``tokenizer.json``; the same every time.

    Args:
        text: what it is learned from.
        size: tokens, the 256 bytes and the two special ones of Pythia's tokenizer (ids 0 and 1) among them.

    Raises:
        InvalidArgument: too small a size.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if size < len(alphabet) + len(SPECIAL):
        raise InvalidArgument(
            "learned_tokenizer",
            "size",
            required=f"at least {len(alphabet) + len(SPECIAL)}, for every byte and {len(SPECIAL)} special tokens",
            received=f"{size}",
            remedy="take 1,000 or more",
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(SPECIAL), initial_alphabet=sorted(alphabet), show_progress=False
    )
    tokenizer.train_from_iterator(_pieces(text), trainer)
    return tokenizer.to_str()


def _ids(tokenizer: PreTrainedTokenizerBase, part: str) -> torch.Tensor:
    pieces = tokenizer(list(_pieces(part)), add_special_tokens=False, return_attention_mask=False, verbose=False)
    return torch.tensor([id for piece in pieces["input_ids"] for id in piece], dtype=torch.int64)


def _pieces(part: str) -> Iterator[str]:
    start = 0
    while start < len(part):
        end = part.find("\n", start + _PIECE) + 1 or len(part)
        yield part[start:end]
        start = end
