"""A small trained series with a tokenizer, ready to be scanned."""

from pathlib import Path

import torch
from faulty_series import write_series
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from joma.measure.scan.steps import Plan
from joma.metrics import choose_metrics
from joma.saved.series import open_series

NUM_TOKENS = 64


def write_tokenizer(folder: Path) -> Path:
    """Save a tokenizer with the vocabulary size of the series' models."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    words = ["the quick brown fox jumps over the lazy dog, and what it was is not known"] * 3
    trainer = trainers.BpeTrainer(vocab_size=NUM_TOKENS, special_tokens=["<unk>"], show_progress=False)
    tokenizer.train_from_iterator(words, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def write_scannable(folder: Path, family: str = "gpt_neox", layout: str = "step{step}") -> dict[int, Path]:
    """Save a series with a tokenizer in the folder of its steps."""
    places = write_series(folder, layout=layout, family=family)
    write_tokenizer(folder)
    return places


def plan_for(folder: Path, *measures: str, num_sequences: int = 4, length: int = 24) -> Plan:
    """Return a plan in which models read random tokens."""
    probe = torch.randint(NUM_TOKENS, (num_sequences, length), generator=torch.Generator().manual_seed(0))
    return Plan(open_series(folder), choose_metrics(measures or "all", "scan"), probe)
