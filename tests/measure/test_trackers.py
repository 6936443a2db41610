import pytest

from joma.errors import InvalidArgument
from joma.measure.trackers import track_with, tracked_values

ROWS = [(3, 7, "attention_entropy_nats", 1.5), (12, None, "stable_rank", 2.5), (None, None, "loss_nats", 3.5)]
VALUES = {"joma/attention_entropy/layer_03/head_07": 1.5, "joma/stable_rank/layer_12": 2.5, "joma/loss": 3.5}


def test_names_tell_metric_layer_and_head():
    assert tracked_values(ROWS) == VALUES


def test_tensorboard_shows_what_it_was_told(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(tmp_path) as writer:
        track_with(writer)(VALUES, 40)
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
            self.told = []

        def store_init_configuration(self, values): ...

        def log(self, values, step=None):
            self.told.append((values, step))

    kept = Kept()
    accelerator = Accelerator(cpu=True, log_with=kept)
    accelerator.init_trackers("project")
    track_with(accelerator)(VALUES, 40)
    assert kept.told == [(VALUES, 40)]


def test_a_function_is_told_values_and_step():
    told = []
    track_with(lambda *what: told.append(what))(VALUES, 40)
    assert told == [(VALUES, 40)]


def test_anything_else_is_refused():
    with pytest.raises(InvalidArgument, match="`tracker` is a str"):
        track_with("wandb")
