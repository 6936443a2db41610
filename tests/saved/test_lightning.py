"""Checkpoints of Lightning's Trainer are read, and those of torch.distributed.checkpoint after their conversion."""

import pathlib

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from transformers import GPT2Config, GPT2LMHeadModel

from joma.errors import BadInput
from joma.measure.scan.steps import Plan, measure_step
from joma.saved.series import open_series

lightning = pytest.importorskip("lightning")
CONFIG = GPT2Config(
    vocab_size=31, n_embd=8, n_layer=2, n_head=2, n_positions=16, bos_token_id=0, eos_token_id=0, use_cache=False
)


class Language(lightning.LightningModule):
    def __init__(self, place, extra=None):
        super().__init__()
        self.save_hyperparameters()
        self.model = GPT2LMHeadModel(CONFIG)
        self.scale = torch.nn.Linear(2, 2)

    def training_step(self, batch, _):
        return self.model(input_ids=batch, labels=batch).loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def trained(folder, module):
    saving = lightning.pytorch.callbacks.ModelCheckpoint(folder, every_n_train_steps=1, save_top_k=-1, save_last=True)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = lightning.Trainer(max_steps=2, callbacks=[saving], **quiet)
    trainer.fit(module, torch.utils.data.DataLoader(torch.randint(31, (8, 6)), batch_size=4))


@pytest.mark.filterwarnings("ignore")
def test_checkpoints_of_lightning_are_a_series_that_can_be_measured(tmp_path):
    module = Language(pathlib.Path("/data"))
    trained(tmp_path, module)
    series = open_series(tmp_path)
    assert series.names == {1: "epoch=0-step=1.ckpt", 2: "epoch=0-step=2.ckpt"}
    found, expected = series.read(2), module.model.state_dict()
    assert set(found) == {*expected, "scale.weight", "scale.bias"}
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert "no config.json" in measure_step(Plan(series, ("stable_rank",)), 2).reason
    CONFIG.save_pretrained(tmp_path)
    plan = Plan(open_series(tmp_path), ("stable_rank", "attention_entropy_nats"), torch.randint(31, (2, 8)))
    result = measure_step(plan, 2)
    assert result.ok, result.reason
    assert {row.metric for row in result.rows} == {"stable_rank", "attention_entropy_nats"}


@pytest.mark.filterwarnings("ignore")
def test_settings_of_other_classes_are_refused_by_name_and_not_run(tmp_path):
    trained(tmp_path, Language("/data", extra=CONFIG))
    with pytest.raises(BadInput, match=r"refers to transformers.*GPT2Config, and was not run") as caught:
        open_series(tmp_path).checkpoint(2)
    assert "state dict alone" in caught.value.remedy


def test_what_the_named_tool_makes_of_a_distributed_state_is_read(tmp_path):
    model = GPT2LMHeadModel(CONFIG)
    dcp.save({"model": model.state_dict()}, checkpoint_id=tmp_path / "step-5")
    with pytest.raises(BadInput, match=r"python -m torch.distributed.checkpoint.format_utils dcp_to_torch"):
        open_series(tmp_path).checkpoint(5)
    (tmp_path / "converted").mkdir()
    dcp_to_torch_save(tmp_path / "step-5", tmp_path / "converted" / "model.pt")
    found = open_series(tmp_path / "converted").read(0)
    assert all(torch.equal(found[name], tensor) for name, tensor in model.state_dict().items())
