"""The callbacks in real runs of both Trainers."""

import math

import pyarrow.parquet
import pytest
import torch
from offline_trackers import local_trackio, offline_wandb, trackio_rows, wandb_rows
from small_models import small_batch, small_model

from joma.errors import InvalidArgument
from joma.journal import read_journal

KIND = "gpt2"


def texts():
    ids = torch.randint(3, 99, (32, 12), generator=torch.Generator().manual_seed(2))
    return [{"input_ids": row, "labels": row} for row in ids]


def under_trainer(folder, *, probe=None, resume=None, **settings):
    """Train with accumulation and dropout, and return the final weights and the trainer."""
    from transformers import Trainer, TrainingArguments

    arguments = TrainingArguments(
        str(folder),
        **{"max_steps": 6, "report_to": "none", "save_strategy": "no", **settings},
        gradient_accumulation_steps=2,
        per_device_train_batch_size=2,
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = Trainer(small_model(KIND, "AutoModelForCausalLM").train(), arguments, train_dataset=texts())
    if probe is not None:
        trainer.add_callback(probe(trainer))
    trainer.train(resume_from_checkpoint=resume)
    return [parameter.detach().clone() for parameter in trainer.model.parameters()], trainer


@pytest.mark.parametrize(
    "settings", [{}, {"bf16": True}, {"gradient_checkpointing": True}], ids=["plain", "bf16", "checkpointing"]
)
def test_trainer_trains_bit_identically_and_probes_by_optimiser_steps(tmp_path, settings):
    from joma.measure.watch.trainer_callback import TrainerWatch

    plain, _ = under_trainer(tmp_path, **settings)
    watched, _ = under_trainer(
        tmp_path, probe=lambda _: TrainerWatch(small_batch(KIND), every=4, out=tmp_path / "w"), **settings
    )
    assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))
    assert [step for step, _ in read_journal(tmp_path / "w" / "metrics.jsonl").probes] == [0, 4, 6]
    assert pyarrow.parquet.read_table(tmp_path / "w" / "metrics.parquet").num_rows > 0


def scalars(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    path = next(folder.rglob("events.out.tfevents*")).parent
    events = EventAccumulator(str(path)).Reload()
    return {name: [event.step for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_trainers_reporters_show_every_head(tmp_path, monkeypatch):
    from joma.measure.watch.trainer_callback import TrainerWatch

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    _, trainer = under_trainer(
        tmp_path,
        probe=lambda trainer: TrainerWatch(small_batch(KIND), trainer=trainer, every=4),
        report_to="tensorboard",
    )
    shown = scalars(tmp_path / "board")
    assert shown["train/joma/attention_entropy/layer_01/head_03"] == [0, 4, 6]
    assert shown["train/joma/stable_rank/mlp_lower/layer_00"] == [0, 4, 6]
    assert not any("joma" in name for entry in trainer.state.log_history for name in entry)  # and nothing is printed


def test_a_subclass_of_a_transformers_reporter_receives_values(tmp_path, monkeypatch):
    from transformers.integrations import TensorBoardCallback

    from joma.measure.watch.trainer_callback import TrainerWatch

    class Board(TensorBoardCallback):
        """A user's subclass that reports more."""

    def probe(trainer):
        trainer.add_callback(Board)
        return TrainerWatch(small_batch(KIND), trainer=trainer, every=4)

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    under_trainer(tmp_path, probe=probe)
    assert scalars(tmp_path / "board")["train/joma/attention_entropy/layer_01/head_03"] == [0, 4, 6]


def of_one_head(rows, name, step):
    """Return the entries of a history with a head's entropy, and check their values."""
    shown = {row[step]: row[name] for row in rows if name in row}
    assert all(0 < value < math.log(12) for value in shown.values())  # texts of 12 tokens
    return list(shown)


@pytest.mark.parametrize("kind", ["wandb", "trackio"])
def test_trainer_reports_to_wandb_and_trackio(tmp_path, monkeypatch, kind):
    from joma.measure.watch.trainer_callback import TrainerWatch

    package = {"wandb": offline_wandb, "trackio": local_trackio}[kind](tmp_path, monkeypatch)
    under_trainer(
        tmp_path,
        probe=lambda trainer: TrainerWatch(small_batch(KIND), trainer=trainer, every=4),
        report_to=[kind],
        project="p",
        logging_steps=1,
    )
    rows = wandb_rows(package, tmp_path) if kind == "wandb" else trackio_rows(package, "p")
    name = "train/joma/attention_entropy/layer_01/head_03"
    assert of_one_head(rows, name, "train/global_step") == [0, 4, 6]
    assert [row["train/global_step"] for row in rows if "train/loss" in row] == [1, 2, 3, 4, 5, 6]


def test_failed_trainer_leaves_lines_and_continued_training_writes_the_table(tmp_path):
    from transformers import TrainerCallback

    from joma.measure.watch.trainer_callback import TrainerWatch

    class Failing(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            if state.global_step == 3:
                raise ZeroDivisionError

    def probe(trainer):
        return TrainerWatch(small_batch(KIND), every=2, out=tmp_path / "w")

    def failing(trainer):
        trainer.add_callback(probe(trainer))
        return Failing()

    saving = {"save_strategy": "steps", "save_steps": 1}
    with pytest.raises(ZeroDivisionError):
        under_trainer(tmp_path, probe=failing, **saving)
    assert [step for step, _ in read_journal(tmp_path / "w" / "metrics.jsonl").probes] == [0, 2]
    assert not (tmp_path / "w" / "metrics.parquet").exists()
    under_trainer(tmp_path, probe=probe, resume=tmp_path / "checkpoint-2", **saving)
    steps = pyarrow.parquet.read_table(tmp_path / "w" / "metrics.parquet")["step"].to_pylist()
    assert sorted(set(steps)) == [0, 2, 4, 6]


@pytest.mark.parametrize("setting", ["tracker", "start", "evry"])
def test_unknown_settings_of_a_callback_are_refused(setting):
    from joma.measure.watch.lightning_callback import LightningWatch
    from joma.measure.watch.trainer_callback import TrainerWatch

    taken = "every, measures, projections, share_window, out"
    message = rf"`{setting}` is not one of its settings; expected some of {taken}; leave it out"
    for callback in (LightningWatch, TrainerWatch):
        with pytest.raises(InvalidArgument, match=message):
            callback(small_batch(KIND), **{setting: 1})


def under_lightning(folder, *, probe=None, fail_at=None, precision="32-true", logger=None):
    import lightning
    from lightning.pytorch.loggers import TensorBoardLogger

    class Language(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = small_model(KIND, "AutoModelForCausalLM").train()

        def training_step(self, batch, index):
            if index == fail_at:
                raise ZeroDivisionError
            return self.model(**batch).loss

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=1e-2)

    lightning.seed_everything(5, verbose=False)
    trainer = lightning.Trainer(
        max_steps=6,
        accumulate_grad_batches=2,
        callbacks=[] if probe is None else [probe],
        logger=logger or TensorBoardLogger(folder / "board"),
        accelerator="cpu",
        precision=precision,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    module = Language()
    trainer.fit(module, torch.utils.data.DataLoader(texts(), batch_size=2))
    return [parameter.detach().clone() for parameter in module.parameters()]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_lightning_trains_bit_identically_and_probes_by_optimiser_steps(tmp_path, precision):
    from joma.measure.watch.lightning_callback import LightningWatch

    plain = under_lightning(tmp_path / "plain", precision=precision)
    probe = LightningWatch(small_batch(KIND), part="model", every=4, out=tmp_path / "w")
    watched = under_lightning(tmp_path, probe=probe, precision=precision)
    assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))
    assert [step for step, _ in read_journal(tmp_path / "w" / "metrics.jsonl").probes] == [0, 4, 6]
    assert scalars(tmp_path / "board")["joma/attention_entropy/layer_01/head_03"] == [0, 4, 6]


def test_lightning_logs_to_wandb(tmp_path, monkeypatch):
    from lightning.pytorch.loggers import WandbLogger

    from joma.measure.watch.lightning_callback import LightningWatch

    wandb = offline_wandb(tmp_path, monkeypatch)
    logger = WandbLogger(save_dir=tmp_path, offline=True)
    under_lightning(tmp_path, probe=LightningWatch(small_batch(KIND), part="model", every=4), logger=logger)
    name = "joma/attention_entropy/layer_01/head_03"
    assert of_one_head(wandb_rows(wandb, tmp_path), name, "trainer/global_step") == [0, 4, 6]


def test_failed_lightning_training_writes_the_table(tmp_path):
    from joma.measure.watch.lightning_callback import LightningWatch

    probe = LightningWatch(small_batch(KIND), part="model", every=2, out=tmp_path / "w")
    with pytest.raises(ZeroDivisionError):
        under_lightning(tmp_path, probe=probe, fail_at=6)
    steps = pyarrow.parquet.read_table(tmp_path / "w" / "metrics.parquet")["step"].to_pylist()
    assert sorted(set(steps)) == [0, 2]


def test_a_missing_part_is_refused(tmp_path):
    from joma.measure.watch.lightning_callback import LightningWatch

    with pytest.raises(InvalidArgument, match=r"`part` is 'network'.* name one of model"):
        under_lightning(tmp_path, probe=LightningWatch(small_batch(KIND), part="network"))
    with pytest.raises(
        InvalidArgument, match=r"`part` is None; expected .*, because it has no forward; name one of model"
    ):
        under_lightning(tmp_path, probe=LightningWatch(small_batch(KIND)))
