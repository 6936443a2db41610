"""A watch as a callback of Lightning, which the extra ``lightning`` installs."""

from __future__ import annotations

from joma.measure.watch import lightning_callback
from joma.studies.watch import Watch, WatchingCallback


class LightningWatch(lightning_callback.LightningWatch, WatchingCallback):
    """Watch a model during training by Lightning; a step is an optimiser step.

    >>> import lightning, torch, joma
    >>> class Module(lightning.LightningModule):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.model = torch.nn.TransformerEncoderLayer(16, 2, batch_first=True)
    ...     def training_step(self, batch, _):
    ...         return self.model(batch).square().mean()
    ...     def configure_optimizers(self):
    ...         return torch.optim.AdamW(self.parameters())
    >>> data = torch.utils.data.DataLoader(torch.randn(4, 8, 16), batch_size=2)
    >>> probe = joma.LightningWatch(torch.randn(2, 8, 16), part="model", every=1)
    >>> quiet = dict(logger=False, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False)
    >>> lightning.Trainer(max_epochs=1, accelerator="cpu", callbacks=[probe], **quiet).fit(Module(), data)
    >>> sorted(probe.frame()["step"].unique().tolist())
    [0, 1, 2]
    >>> axes = probe.plot("attention_entropy_nats")

    Args:
        probe_batch: the arguments of the model, on any device.
        part: the attribute of the ``LightningModule`` that holds the model; the whole module by default.
        every, out, **settings: as in ``joma.watch``, except ``start`` and ``tracker``; values are reported to the
            loggers of the Trainer.

    Raises:
        BadInput: Lightning is not installed.
        InvalidArgument: an unknown setting. A model that cannot be watched is refused when training begins.
    """

    kind = Watch
