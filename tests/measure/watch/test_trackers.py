import numpy as np
import pytest
import torch
from offline_trackers import local_trackio, offline_wandb, trackio_rows, wandb_axes, wandb_rows
from small_models import small_batch, small_model

from joma.charts import SHADES
from joma.errors import InvalidArgument
from joma.measure.watch.trackers import LayerValues, picture_of, track_with, tracked_values
from joma.measure.watch.watching import Watch
from joma.metrics import choose_metrics
from joma.records import Row

ROWS = [
    Row(3, 7, None, "attention_entropy_nats", 1.5),
    Row(12, None, "mlp_lower", "stable_rank", 2.5),
    Row(None, None, None, "val_loss_nats", 3.5),
]
VALUES = {  # with detail="head"
    "joma/attention_entropy/layer_03/head_07": 1.5,
    "joma/stable_rank/mlp_lower/layer_12": 2.5,
    "joma/val_loss": 3.5,
}
PICTURE = "joma/attention_entropy_normalized/layers_by_heads"


def rows_of_network(num_layers, num_heads=2):
    """Return the rows of a probe as by default, each with the layer's number as its value."""
    names = [name for name in choose_metrics("attention", "watch") if name != "attention_window_share"]
    heads = [Row(at, head, None, name, at) for name in names for at in range(num_layers) for head in range(num_heads)]
    return heads + [Row(at, None, "mlp_lower", "stable_rank", at) for at in range(num_layers)]


@pytest.mark.parametrize(("num_layers", "num_charts"), [(2, 11), (8, 35), (12, 27), (48, 35)])
def test_layers_of_any_network_make_a_few_dozen_charts(num_layers, num_charts):
    values = LayerValues()(rows_of_network(num_layers))
    assert len(values) == num_charts
    assert values["joma/attention_sum_of_squares"] == (num_layers - 1) / 2
    entropies = [value for name, value in values.items() if name.startswith("joma/attention_entropy/")]
    assert np.mean(entropies) == pytest.approx((num_layers - 1) / 2)


def test_neighbouring_layers_of_a_deep_network_share_a_chart():
    values = LayerValues()(rows_of_network(12))
    assert values["joma/attention_entropy/layers_02_03"] == 2.5
    assert values["joma/stable_rank/mlp_lower/layers_10_11"] == 10.5


def test_names_stay_when_a_layer_cannot_be_measured_any_more():
    values, rows = LayerValues(), rows_of_network(9)
    first = values(rows)
    later = values([row for row in rows if row.layer != 8])
    assert later.keys() == first.keys() - {name for name in first if name.endswith("layer_08")}


def test_the_picture_shows_layers_from_the_top_and_heads_from_the_left():
    values = {(0, 0): 0.0, (0, 1): 1.0, (1, 0): 0.5}  # a head is missing
    name, pixels = picture_of([Row(*at, None, "attention_entropy_normalized", value) for at, value in values.items()])
    assert (name, pixels.shape, pixels.dtype) == (PICTURE, (320, 320, 3), np.uint8)
    middles = pixels[80::160, 80::160]
    colours = ["#" + "".join(f"{part:02x}" for part in middle) for middle in middles.reshape(-1, 3)]
    assert colours == [SHADES[0], SHADES[-1], SHADES[2], "#ffffff"]


def test_without_normalised_entropy_there_is_no_picture():
    assert picture_of(ROWS) is None


def test_tensorboard_shows_layers_and_a_picture_of_all_heads(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(tmp_path) as writer:
        measured = watched_loop(writer, lambda index, done: done(), detail="layer")
    events = EventAccumulator(str(tmp_path)).Reload()
    names = events.Tags()["scalars"]
    assert len(names) == 11
    heads = [measured[4][f"joma/attention_entropy/layer_01/head_{head:02}"] for head in range(4)]
    shown = {event.step: event.value for event in events.Scalars("joma/attention_entropy/layer_01")}
    assert list(shown) == [0, 4, 8]
    assert shown[4] == pytest.approx(np.mean(heads))
    pictures = events.Images(PICTURE)
    assert [(one.step, one.width, one.height) for one in pictures] == [(step, 320, 160) for step in (0, 4, 8)]


def test_wandb_shows_layers_and_a_picture_of_all_heads(tmp_path, monkeypatch):
    wandb = offline_wandb(tmp_path, monkeypatch)
    watched_loop(wandb.init(project="p"), lambda index, done: done(), detail="layer")
    rows = wandb_rows(wandb, tmp_path)
    assert [len(values) for values in ours(rows, "joma/step").values()] == [12, 12, 12]  # with the step
    files = [row[f"{PICTURE}.path"] for row in rows]
    (folder,) = tmp_path.glob("wandb/offline-run-*/files")
    assert all((folder / file).read_bytes().startswith(b"\x89PNG") for file in files)
    assert len(set(files)) == 3


def test_an_accelerator_passes_pictures_to_tensorboard(tmp_path):
    from accelerate import Accelerator
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accelerator = Accelerator(cpu=True, log_with="tensorboard", project_dir=tmp_path)
    accelerator.init_trackers("p")
    track_with(accelerator)(rows_of_network(2), 40)
    accelerator.end_training()
    events = EventAccumulator(str(next(tmp_path.rglob("events.out.tfevents*")).parent)).Reload()
    assert [one.step for one in events.Images(PICTURE)] == [40]
    assert events.Scalars("joma/attention_entropy/layer_01")[0].value == 1


def test_an_unknown_detail_is_refused():
    with pytest.raises(InvalidArgument, match=r"`detail` is 'heads'.*did you mean 'head'"):
        Watch(small_model("gpt2"), small_batch("gpt2"), detail="heads")


def test_names_contain_metric_layer_and_head():
    assert tracked_values(ROWS) == VALUES


def test_tensorboard_shows_the_logged_values(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(tmp_path) as writer:
        track_with(writer, "head")(ROWS, 40)
    events = EventAccumulator(str(tmp_path)).Reload()
    shown = {name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]}
    assert shown == {name: [(40, value)] for name, value in VALUES.items()}


def test_an_accelerator_passes_values_on_to_its_trackers():
    from accelerate import Accelerator
    from accelerate.tracking import GeneralTracker

    class Kept(GeneralTracker):
        name, requires_logging_directory, tracker = "kept", False, None

        def __init__(self):
            super().__init__()
            self.received = []

        def store_init_configuration(self, values): ...

        def log(self, values, step=None):
            self.received.append((values, step))

    kept = Kept()
    accelerator = Accelerator(cpu=True, log_with=kept)
    accelerator.init_trackers("project")
    track_with(accelerator, "head")(ROWS, 40)
    assert kept.received == [(VALUES, 40)]


def test_an_accelerator_without_trackers_is_refused():
    from accelerate import Accelerator

    with pytest.raises(InvalidArgument, match=r"an Accelerator without any; .* init_trackers first"):
        track_with(Accelerator(cpu=True))


def watched_loop(tracker, log, detail="head"):
    """Train a GPT-2 for eight steps; ``log`` gets each index and a function that ends the step.

    Returns the measured values by step and name.
    """
    model = small_model("gpt2", "AutoModelForCausalLM").train()
    batch = small_batch("gpt2")
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    with Watch(model, batch, every=4, tracker=tracker, detail=detail) as probe:
        for index in range(8):
            model(**batch, labels=batch["input_ids"]).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            log(index, probe.step)
    steps = {}
    for row in probe.measurements():
        steps.setdefault(row.step, []).append(Row(*row[2:]))
    return {step: tracked_values(rows) for step, rows in steps.items()}


def ours(rows, step):
    """Return joma's values, without pictures, by name and by the column ``step``, for rows that have any."""
    is_value = [{name: row[name] for name in row if name.startswith("joma/") and PICTURE not in name} for row in rows]
    found = {row[step]: values for row, values in zip(rows, is_value, strict=True)}
    return {number: values for number, values in found.items() if values}


LOOPS = {
    "logged by batch": lambda run, index, done: [
        *[run.log({"mine": 3 * index + batch}) for batch in range(3)],
        done(),
    ],
    "from 0, logged first": lambda run, index, done: [run.log({"mine": index}, step=index), done()],
    "from 0, logged last": lambda run, index, done: [done(), run.log({"mine": index}, step=index)],
    "from 1, logged first": lambda run, index, done: [run.log({"mine": index + 1}, step=index + 1), done()],
    "from 1, logged last": lambda run, index, done: [done(), run.log({"mine": index + 1}, step=index + 1)],
    "logged before and after": lambda run, index, done: [
        run.log({"mine": index}, step=index),
        done(),
        run.log({"more": index}, step=index),
    ],
    "nothing logged": lambda run, index, done: done(),
}
"""Ways in which loops number the rows of their run; ``mine`` is the number of a row with values of the loop."""


@pytest.mark.parametrize("kind", LOOPS)
def test_wandb_shows_every_probe_and_every_row_of_the_loop(tmp_path, monkeypatch, kind):
    wandb = offline_wandb(tmp_path, monkeypatch)
    run = wandb.init(project="p")
    measured = watched_loop(run, lambda index, done: LOOPS[kind](run, index, done))
    rows = wandb_rows(wandb, tmp_path)
    assert list(measured) == [0, 4, 8]
    shown = ours([row for row in rows if "joma/step" in row], "joma/step")
    assert shown == {step: {**values, "joma/step": step} for step, values in measured.items()}
    mine = {"logged by batch": range(24), "nothing logged": []}.get(
        kind, range("from 1" in kind, 8 + ("from 1" in kind))
    )
    assert sum(f"{PICTURE}.path" in row for row in rows) == 3
    assert [(row["_step"], row["mine"]) for row in rows if "mine" in row] == [(number, number) for number in mine]
    if kind == "logged before and after":
        assert [row["more"] for row in rows if "more" in row] == list(range(8))


def test_an_accelerator_logs_to_its_wandb_run(tmp_path, monkeypatch):
    from accelerate import Accelerator

    wandb = offline_wandb(tmp_path, monkeypatch)
    accelerator = Accelerator(cpu=True, log_with="wandb")
    accelerator.init_trackers("p")
    accelerator.log({"mine": 1.5}, step=90)  # far ahead, as loops are that count batches
    track_with(accelerator, "head")(ROWS, 40)
    (row,) = wandb_rows(wandb, tmp_path)
    assert {name: row[name] for name in row if "/" in name} == {**VALUES, "joma/step": 40}
    assert (row["_step"], row["mine"]) == (90, 1.5)


def test_the_wandb_package_logs_to_its_run_over_joma_steps(tmp_path, monkeypatch):
    wandb = offline_wandb(tmp_path, monkeypatch)
    with pytest.raises(InvalidArgument, match=r"wandb, which has no active run; .* call wandb\.init\(\.\.\.\) first"):
        track_with(wandb)
    wandb.init(project="p")
    track_with(wandb, "head")(ROWS, 40)
    (row,) = wandb_rows(wandb, tmp_path)
    assert {name: row[name] for name in row if "/" in name} == {**VALUES, "joma/step": 40}
    assert wandb_axes(wandb, tmp_path) == {"joma/*": "joma/step"}


@pytest.mark.parametrize("given", ["run", "package"])
@pytest.mark.parametrize("kind", ["from 0, logged last", "from 1, logged first", "nothing logged"])
def test_trackio_shows_every_probe_and_every_row_of_the_loop(tmp_path, monkeypatch, kind, given):
    trackio = local_trackio(tmp_path, monkeypatch)
    run = trackio.init(project="p", embed=False)
    measured = watched_loop(run if given == "run" else trackio, lambda index, done: LOOPS[kind](run, index, done))
    rows = trackio_rows(trackio, "p")
    assert list(measured) == [0, 4, 8]
    assert ours([row for row in rows if "mine" not in row], "step") == measured
    mine = {"nothing logged": []}.get(kind, range("from 1" in kind, 8 + ("from 1" in kind)))
    assert [(row["step"], row["mine"]) for row in rows if "mine" in row] == [(number, number) for number in mine]


def test_trackio_before_a_run_is_refused(tmp_path, monkeypatch):
    trackio = local_trackio(tmp_path, monkeypatch)
    with pytest.raises(
        InvalidArgument, match=r"trackio, which has no active run; .* call trackio\.init\(\.\.\.\) first"
    ):
        Watch(small_model("gpt2"), small_batch("gpt2"), tracker=trackio)


def test_a_function_receives_values_and_step():
    received = []
    track_with(lambda *what: received.append(what), "head")(ROWS, 40)
    assert received == [(VALUES, 40)]


def test_anything_else_is_refused():
    with pytest.raises(InvalidArgument, match="`tracker` is a str"):
        track_with("wandb")
