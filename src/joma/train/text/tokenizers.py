"""Hugging Face tokenizers, from a file, a folder or the hub."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from joma.errors import BadInput, InvalidArgument, cause_of
from joma.files import expanded
from joma.train.text.files import missing

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SPECIAL = ("<|endoftext|>", "<|padding|>")
"""The tokens for the end of a text and for padding, with ids 0 and 1 in a learned tokenizer."""

_PIECE = 100_000
"""Characters per piece; pieces end with a line, are tokenised in parallel, and limit the memory use."""


def encoded(
    train: str, held_out: str, name: str, *, keep_ids: bool = False
) -> tuple[torch.Tensor, torch.Tensor, tuple[str, ...], int | None]:
    """Tokenise both parts of a text, and renumber the ids so that every id occurs.

    Args:
        train, held_out: the text.
        name: a ``tokenizer.json``, a folder, or a name on the hub.
        keep_ids: keep the ids of the tokenizer, including tokens that do not occur.

    Returns:
        the ids of both parts, (T,) int64; the tokens by id, in the tokenizer's order; the id of the unknown token,
        or ``None`` if it does not exist or does not occur.
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
    """Load a tokenizer from a file, a folder or the hub; code in a repository is never executed.

    Raises:
        BadInput: the file is missing or no tokenizer, the name is not on the hub, or the hub cannot be reached.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    path = expanded(name)
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
        problem = f"the model {name!r} has no tokenizer"
        raise BadInput(problem, expected="a model that reads text", remedy="give another name")
    return tokenizer


def learned_tokenizer(text: str, size: int) -> str:
    """Learn a byte-level BPE tokenizer from a text, deterministically, and return its ``tokenizer.json``.

    Args:
        text: the text.
        size: number of tokens, including the 256 bytes and the two special tokens of Pythia (ids 0 and 1).

    Raises:
        InvalidArgument: the size is too small.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if size < (least := len(alphabet) + len(SPECIAL)):
        required, remedy = f"at least {least}, for every byte and {len(SPECIAL)} special tokens", "take 1,000 or more"
        raise InvalidArgument("learned_tokenizer", "size", required=required, received=f"{size}", remedy=remedy)
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
