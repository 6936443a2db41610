"""A watch as a callback of transformers' Trainer."""

from __future__ import annotations

from joma.measure.watch import trainer_callback
from joma.studies.watch import Watch, WatchingCallback


class TrainerWatch(trainer_callback.TrainerWatch, WatchingCallback):
    """Watch a model during training by transformers' ``Trainer``; a step is an optimiser step.

    >>> import torch, joma
    >>> from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments
    >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=99, n_embd=32, n_layer=2, n_head=4))
    >>> texts = [{"input_ids": ids, "labels": ids} for ids in torch.randint(99, (16, 12))]
    >>> settings = TrainingArguments("run", max_steps=2, report_to="none", save_strategy="no")
    >>> trainer = Trainer(model, settings, train_dataset=texts)
    >>> probe = joma.TrainerWatch({"input_ids": texts[0]["input_ids"][None]}, trainer=trainer, every=1)
    >>> trainer.add_callback(probe)
    >>> trainer.train()
    {...}
    TrainOutput(...)
    >>> sorted(probe.frame()["step"].unique().tolist())
    [0, 1, 2]
    >>> axes = probe.plot("attention_entropy_nats")

    If training fails, all measurements are in ``metrics.jsonl`` of ``out``. ``metrics.parquet`` is written at the end
    of training, also if it was resumed from a checkpoint.

    Args:
        probe_batch: the arguments of the model, on any device.
        trainer: values are also reported to its ``report_to``; without a trainer they are written to ``out`` only.
        every, out, **settings: as in ``joma.watch``, except ``start`` and ``tracker``.

    Raises:
        InvalidArgument: an unknown setting. A model that cannot be watched is refused when training begins.
    """

    kind = Watch
