"""A model that transformers' Trainer trains, watched."""

from __future__ import annotations

from joma.measure.watch import trainer_callback
from joma.studies.watch import Watch, WatchingCallback


class TrainerWatch(trainer_callback.TrainerWatch, WatchingCallback):
    """Watch the model that transformers' ``Trainer`` trains; a step is an optimiser step, whatever batches it takes.

    >>> import torch, joma
    >>> from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments
    >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=99, n_embd=32, n_layer=2, n_head=4))
    >>> texts = [{"input_ids": ids, "labels": ids} for ids in torch.randint(99, (16, 12))]
    >>> settings = TrainingArguments("run", max_steps=2, report_to="none", save_strategy="no")
    >>> trainer = Trainer(model, settings, train_dataset=texts)
    >>> probe = joma.TrainerWatch({"input_ids": texts[0]["input_ids"][None]}, trainer=trainer, every=1)
    >>> trainer.add_callback(probe)
    >>> trainer.train()  # doctest: +ELLIPSIS
    {...}
    TrainOutput(...)
    >>> sorted(probe.frame()["step"].unique().tolist())
    [0, 1, 2]

    After training that fails, all that was measured is in ``metrics.jsonl`` of ``out``; ``metrics.parquet`` comes at
    the end of training that goes on from a checkpoint.

    Args:
        probe_batch: what the model is called with, on any device.
        trainer: whose ``report_to`` the values go to as well; without it they go to ``out`` alone.
        every, out, **settings: as ``joma.watch`` takes them, but for ``start`` and ``tracker``.

    Raises:
        InvalidArgument: a setting that there is not. A model that cannot be watched is refused when training begins.
    """

    kind = Watch
