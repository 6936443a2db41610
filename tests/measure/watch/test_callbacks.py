"""The callbacks in real runs of both Trainers."""

import copy
import math
import warnings

import pyarrow.parquet
import pytest
import torch
from offline_trackers import local_trackio, offline_wandb, trackio_rows, wandb_rows
from small_models import small_batch, small_model

from joma.errors import BadInput, InvalidArgument
from joma.journal import read_journal

KIND = "gpt2"


def texts():
    ids = torch.randint(3, 99, (32, 12), generator=torch.Generator().manual_seed(2))
    return [{"input_ids": row, "labels": row} for row in ids]


def entropies(model):
    """Return the mean entropy of each layer and head on the probe batch, by the model's own weights in float64."""
    twin = copy.deepcopy(model).double().eval()
    twin.set_attn_implementation("eager")
    with torch.no_grad():
        weights = twin(**small_batch(KIND), output_attentions=True).attentions
    return torch.stack([torch.special.entr(part).sum(-1).mean((0, 2)) for part in weights])


def measured(watch, step):
    """Return the same as measured at a step; ``None`` if it was not."""
    rows = [row for row in watch.probes.get(step, ()) if row.metric == "attention_entropy_nats"]
    return torch.tensor([row.value for row in sorted(rows)]).view(2, 4).double() if rows else None


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
    assert shown["train/joma/attention_entropy/layer_01"] == [0, 4, 6]
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
    assert scalars(tmp_path / "board")["train/joma/attention_entropy/layer_01"] == [0, 4, 6]


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
    name = "train/joma/attention_entropy/layer_01"
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


def swapping(live, *, swaps):
    """Return a callback that keeps the entropies of each step, and may put in zeros as weights for evaluation."""
    from transformers import TrainerCallback

    class Swapping(TrainerCallback):
        kept = ()

        def on_step_end(self, args, state, control, model=None, **_):
            live[state.global_step] = entropies(model)
            self.on_epoch_end(args, state, control, model)

        def on_epoch_end(self, args, state, control, model=None, **_):
            if swaps and control.should_evaluate and not self.kept:
                self.kept = [weight.detach().clone() for weight in model.parameters()]
                for weight in model.parameters():
                    weight.data.mul_(0)

        def on_evaluate(self, args, state, control, model=None, **_):
            for weight, kept in zip(model.parameters(), self.kept, strict=bool(self.kept)):
                weight.data.copy_(kept)
            self.kept = ()

    return Swapping()


EVALUATION = {"eval_strategy": "steps", "metric_for_best_model": "eval_loss", "greater_is_better": False}
EARLY = {**EVALUATION, "load_best_model_at_end": True, "save_strategy": "steps", "learning_rate": 0.05, "max_steps": 30}


@pytest.mark.parametrize(
    ("is_first", "unit", "swaps"),
    [(True, "steps", True), (False, "steps", True), (False, "epoch", True), (True, "epoch", False)],
)
def test_each_step_under_trainer_is_measured_with_the_weights_that_it_left(tmp_path, is_first, unit, swaps, tolerance):
    """Early stopping is decided in an evaluation, after which the best weights are loaded."""
    from transformers import EarlyStoppingCallback, Trainer, TrainingArguments

    from joma.measure.watch.trainer_callback import TrainerWatch

    live, settings = {}, {**EARLY, "eval_strategy": unit, "save_strategy": unit, "eval_steps": 2, "save_steps": 2}
    arguments = TrainingArguments(str(tmp_path), **settings, report_to="none", use_cpu=True, disable_tqdm=True)
    model = small_model(KIND, "AutoModelForCausalLM").train()
    trainer = Trainer(model, arguments, train_dataset=texts()[:16], eval_dataset=texts()[16:20])
    watch = TrainerWatch(small_batch(KIND), every=3)
    for callback in (watch, swapping(live, swaps=swaps), EarlyStoppingCallback(2))[:: 1 if is_first else -1]:
        trainer.add_callback(callback)
    trainer.train()
    last = trainer.state.global_step
    assert 2 < last < 30
    assert set(live) == set(range(1, last + 1))
    assert (entropies(model) - live[last]).abs().max() > 100 * tolerance("attention.entropy")
    found = watch.watch.probes
    assert list(found) == sorted({0, *range(3, last + 1, 3), last})
    for step in list(found)[1:]:
        assert (measured(watch.watch, step) - live[step]).abs().max() <= tolerance("attention.entropy")


def test_a_last_step_whose_weights_were_replaced_at_once_is_not_measured(tmp_path):
    from transformers import TrainerCallback

    from joma.measure.watch.trainer_callback import TrainerWatch

    class Averaging(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **_):
            if state.global_step == 3:
                control.should_training_stop = True
                model.load_state_dict({name: 0.9 * weight for name, weight in model.state_dict().items()})

    probes = []

    def probe(trainer):
        trainer.add_callback(Averaging())
        probes.append(TrainerWatch(small_batch(KIND), every=2))
        return probes[0]

    with pytest.warns(
        RuntimeWarning, match="step 3, the last one, is not measured, because the model has other weights"
    ):
        under_trainer(tmp_path, probe=probe)
    assert list(probes[0].watch.probes) == [0, 2]


def small_batches_only():
    """Return a model that runs out of memory with more than four texts in training."""
    model = small_model(KIND, "AutoModelForCausalLM").train()
    forward = model.forward

    def limited(input_ids=None, **settings):
        if model.training and len(input_ids) > 4:
            raise RuntimeError("CUDA out of memory. Tried to allocate")
        return forward(input_ids=input_ids, **settings)

    model.forward = limited
    return model


@pytest.mark.slow
def test_an_attempt_with_too_large_batches_is_dropped(tmp_path):
    from transformers import Trainer, TrainingArguments

    from joma.measure.watch.trainer_callback import TrainerWatch

    settings = {"max_steps": 6, "auto_find_batch_size": True, "report_to": "none", "save_strategy": "no"}
    arguments = TrainingArguments(str(tmp_path), **settings, use_cpu=True, disable_tqdm=True)
    trainer = Trainer(small_batches_only(), arguments, train_dataset=texts())
    watch = TrainerWatch(small_batch(KIND), every=4, out=tmp_path / "w")
    trainer.add_callback(watch)
    trainer.train()
    assert [step for step, _ in read_journal(tmp_path / "w" / "metrics.jsonl").probes] == [0, 4, 6]
    assert (measured(watch.watch, 6) - entropies(small_model(KIND))).abs().max() > 0.001  # trained


def test_training_again_after_a_failure_drops_what_the_failed_one_measured(tmp_path):
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from joma.measure.watch.trainer_callback import TrainerWatch

    class FailingOnce(TrainerCallback):
        fails = True

        def on_step_end(self, args, state, control, **_):
            if state.global_step == 3 and self.fails:
                self.fails = False
                raise ZeroDivisionError

    arguments = TrainingArguments(
        str(tmp_path), max_steps=5, report_to="none", save_strategy="no", use_cpu=True, disable_tqdm=True
    )
    watch = TrainerWatch(small_batch(KIND), every=2, out=tmp_path / "w")
    trainer = Trainer(small_model(KIND, "AutoModelForCausalLM"), arguments, train_dataset=texts())
    for callback in (watch, FailingOnce()):
        trainer.add_callback(callback)
    with pytest.raises(ZeroDivisionError):
        trainer.train()
    failed = measured(watch.watch, 2)
    trainer.train()
    assert [step for step, _ in read_journal(tmp_path / "w" / "metrics.jsonl").probes] == [0, 2, 4, 5]
    assert not torch.equal(measured(watch.watch, 2), failed)
    with pytest.raises(BadInput, match="already holds measurements of steps 0 to 5"):
        trainer.train()


def test_each_trial_of_a_search_has_its_own_folder(tmp_path):
    from transformers import Trainer, TrainingArguments

    from joma.measure.watch.trainer_callback import TrainerWatch

    arguments = TrainingArguments(
        str(tmp_path), max_steps=2, report_to="none", save_strategy="no", use_cpu=True, disable_tqdm=True
    )
    trainer = Trainer(
        args=arguments, train_dataset=texts(), model_init=lambda: small_model(KIND, "AutoModelForCausalLM")
    )
    trainer.add_callback(TrainerWatch(small_batch(KIND), every=2, out=tmp_path / "w"))
    for rate in (0.1, 0.01):
        trainer.train(trial={"learning_rate": rate})
    for trial in ("trial_0", "trial_1"):
        assert [step for step, _ in read_journal(tmp_path / "w" / trial / "metrics.jsonl").probes] == [0, 2]
        table = pyarrow.parquet.read_table(tmp_path / "w" / trial / "metrics.parquet")
        assert set(table["run"].to_pylist()) == {trial}


@pytest.mark.parametrize("setting", ["tracker", "start", "evry"])
def test_unknown_settings_of_a_callback_are_refused(setting):
    from joma.measure.watch.lightning_callback import LightningWatch
    from joma.measure.watch.trainer_callback import TrainerWatch

    taken = "every, measures, projections, share_window, out, detail, alarm"
    message = rf"`{setting}` is not one of its settings; expected some of {taken}; leave it out"
    for callback in (LightningWatch, TrainerWatch):
        with pytest.raises(InvalidArgument, match=message):
            callback(small_batch(KIND), **{setting: 1})


def under_lightning(
    folder, *, probe=None, fail_at=None, precision="32-true", logger=None, callbacks=(), rate=1e-2, **settings
):
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
            return torch.optim.AdamW(self.parameters(), lr=rate)

        def validation_step(self, batch, _):
            self.log("val_loss", self.model(**batch).loss)

    lightning.seed_everything(5, verbose=False)
    trainer = lightning.Trainer(
        **{"max_steps": 6, "limit_val_batches": 0, **settings},
        accumulate_grad_batches=2,
        callbacks=[*([] if probe is None else [probe]), *callbacks],
        logger=logger or TensorBoardLogger(folder / "board"),
        accelerator="cpu",
        precision=precision,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    module = Language()
    loaders = [torch.utils.data.DataLoader(texts(), batch_size=size) for size in (2, 16)]
    trainer.fit(module, *loaders)
    return [parameter.detach().clone() for parameter in module.parameters()]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_lightning_trains_bit_identically_and_probes_by_optimiser_steps(tmp_path, precision):
    from joma.measure.watch.lightning_callback import LightningWatch

    plain = under_lightning(tmp_path / "plain", precision=precision)
    probe = LightningWatch(small_batch(KIND), part="model", every=4, out=tmp_path / "w")
    watched = under_lightning(tmp_path, probe=probe, precision=precision)
    assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))
    assert [step for step, _ in read_journal(tmp_path / "w" / "metrics.jsonl").probes] == [0, 4, 6]
    assert scalars(tmp_path / "board")["joma/attention_entropy/layer_01"] == [0, 4, 6]


def test_lightning_logs_to_wandb(tmp_path, monkeypatch):
    from lightning.pytorch.loggers import WandbLogger

    from joma.measure.watch.lightning_callback import LightningWatch

    wandb = offline_wandb(tmp_path, monkeypatch)
    logger = WandbLogger(save_dir=tmp_path, offline=True)
    under_lightning(tmp_path, probe=LightningWatch(small_batch(KIND), part="model", every=4), logger=logger)
    name = "joma/attention_entropy/layer_01"
    assert of_one_head(wandb_rows(wandb, tmp_path), name, "trainer/global_step") == [0, 4, 6]


def test_failed_lightning_training_writes_the_table(tmp_path):
    from joma.measure.watch.lightning_callback import LightningWatch

    probe = LightningWatch(small_batch(KIND), part="model", every=2, out=tmp_path / "w")
    with pytest.raises(ZeroDivisionError):
        under_lightning(tmp_path, probe=probe, fail_at=6)
    steps = pyarrow.parquet.read_table(tmp_path / "w" / "metrics.parquet")["step"].to_pylist()
    assert sorted(set(steps)) == [0, 2]


EPOCHS = {"max_steps": -1, "max_epochs": 2, "limit_train_batches": 10}
EARLY_BY_EPOCHS = {"max_steps": 40, "limit_train_batches": 10}


@pytest.mark.parametrize(
    ("average", "settings", "is_first"),
    [
        ("EMAWeightAveraging", {"max_steps": 5}, False),
        ("EMAWeightAveraging", EPOCHS, True),
        ("EMAWeightAveraging", EARLY_BY_EPOCHS, False),
        ("EMAWeightAveraging", {"max_steps": 40, "val_check_interval": 4}, False),
        ("StochasticWeightAveraging", EPOCHS, False),
    ],
    ids=["steps", "epochs", "early", "early in an epoch", "stochastic"],
)
def test_each_step_under_lightning_is_measured_with_the_weights_that_it_left(
    tmp_path, average, settings, is_first, tolerance
):
    """Averages are put in for validation and at the end."""
    import lightning.pytorch.callbacks

    from joma.measure.watch.lightning_callback import LightningWatch

    live = {}

    class Live(lightning.Callback):
        def on_train_batch_end(self, trainer, module, *_):
            live[trainer.global_step] = entropies(module.model)
            self.module = module

    arguments = {"decay": 0.5} if average == "EMAWeightAveraging" else {"swa_lrs": 0.1, "swa_epoch_start": 1}
    averaging = getattr(lightning.pytorch.callbacks, average)(**arguments)
    stopping = lightning.pytorch.callbacks.EarlyStopping("val_loss", min_delta=99, patience=1)
    watch, seen = LightningWatch(small_batch(KIND), part="model", every=3), Live()
    callbacks = [watch, seen, averaging, *([] if settings["max_steps"] == 5 else [stopping])][:: 1 if is_first else -1]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="joma")
        under_lightning(tmp_path, callbacks=callbacks, limit_val_batches=1, rate=0.05, **settings)
    last, found = max(live), watch.watch.probes
    assert last < 40
    if average == "EMAWeightAveraging":  # the other one needs whole epochs
        assert (entropies(seen.module.model) - live[last]).abs().max() > 100 * tolerance("attention.entropy")
    assert list(found) == sorted({0, *range(3, last + 1, 3), last})
    for step in list(found)[1:]:
        assert (measured(watch.watch, step) - live[step]).abs().max() <= tolerance("attention.entropy")


def test_lightning_training_again_after_a_failure_drops_what_the_failed_one_measured(tmp_path):
    from joma.measure.watch.lightning_callback import LightningWatch

    probe = LightningWatch(small_batch(KIND), part="model", every=2, out=tmp_path / "w")
    with pytest.raises(ZeroDivisionError):
        under_lightning(tmp_path, probe=probe, fail_at=6)
    failed = measured(probe.watch, 2)
    under_lightning(tmp_path, probe=probe, rate=1e-3)
    assert [step for step, _ in read_journal(tmp_path / "w" / "metrics.jsonl").probes] == [0, 2, 4, 6]
    assert not torch.equal(measured(probe.watch, 2), failed)


def test_a_missing_part_is_refused(tmp_path):
    from joma.measure.watch.lightning_callback import LightningWatch

    with pytest.raises(InvalidArgument, match=r"`part` is 'network'.* name one of model"):
        under_lightning(tmp_path, probe=LightningWatch(small_batch(KIND), part="network"))
    with pytest.raises(
        InvalidArgument, match=r"`part` is None; expected .*, because it has no forward; name one of model"
    ):
        under_lightning(tmp_path, probe=LightningWatch(small_batch(KIND)))


def test_trainer_saves_checkpoints_where_log_spaced_probes_measure(tmp_path):
    from joma.measure.watch.trainer_callback import TrainerSave, TrainerWatch

    def probe(trainer):
        trainer.add_callback(TrainerSave())
        return TrainerWatch(small_batch(KIND), every="log", out=tmp_path / "w", measures="attention_entropy_nats")

    _, trainer = under_trainer(tmp_path / "saved", probe=probe, max_steps=12, save_only_model=True)
    saved = sorted(int(path.name.removeprefix("checkpoint-")) for path in (tmp_path / "saved").glob("checkpoint-*"))
    assert saved == [*range(9), 10, 11, 12]
    steps = [step for step, _ in read_journal(tmp_path / "w" / "metrics.jsonl").probes]
    assert steps == saved
    first = type(trainer.model).from_pretrained(tmp_path / "saved" / "checkpoint-0")
    assert torch.equal(first.lm_head.weight, small_model(KIND, "AutoModelForCausalLM").lm_head.weight)


def test_saving_training_with_a_limit_is_refused(tmp_path):
    from joma.measure.watch.trainer_callback import TrainerSave

    with pytest.raises(InvalidArgument, match=r"`save_total_limit` is 2.*leave it out"):
        under_trainer(tmp_path, probe=lambda _: TrainerSave(), save_total_limit=2)


def broken_under_trainer(folder, monkeypatch, **settings):
    from joma.measure.watch.trainer_callback import TrainerWatch

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(folder / "board"))
    broken = {"report_to": "tensorboard", "learning_rate": 3.0, "lr_scheduler_type": "constant"}
    under_trainer(folder, probe=lambda own: TrainerWatch(small_batch(KIND), trainer=own, **settings), **broken)


def broken_under_lightning(folder, _, **settings):
    from joma.measure.watch.lightning_callback import LightningWatch

    under_lightning(folder, probe=LightningWatch(small_batch(KIND), part="model", **settings), rate=3.0)


@pytest.mark.parametrize("train_broken", [broken_under_trainer, broken_under_lightning])
def test_callbacks_show_pictures_and_raise_alarms(tmp_path, monkeypatch, train_broken):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    received = []
    with pytest.warns(RuntimeWarning, match="joma: step"):
        train_broken(tmp_path, monkeypatch, every=1, alarm=received.append)
    assert received
    path = next((tmp_path / "board").rglob("events.out.tfevents*")).parent
    events = EventAccumulator(str(path), size_guidance={"images": 0}).Reload()  # all of them
    (name,) = events.Tags()["images"]
    assert name.endswith("joma/attention_entropy_normalized/layers_by_heads")
    assert [one.step for one in events.Images(name)] == list(range(7))
