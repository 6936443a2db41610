"""The losses of a loop: their means between probes, and what is refused or left out."""

import math

import pytest
import torch
from torch import nn

import joma
from joma.errors import InvalidArgument
from joma.measure.watch.losses import Losses
from joma.records import Row


def model():
    return nn.TransformerEncoderLayer(16, 2, batch_first=True)


def test_each_probe_has_the_mean_loss_since_the_last_one(tmp_path):
    with joma.watch(model(), torch.randn(2, 8, 16), every=4, out=tmp_path / "mine") as probe:
        for step in range(1, 11):
            probe.step(loss=torch.tensor([float(step)], requires_grad=True) if step % 2 else step)
    found = joma.show(tmp_path / "mine").frame().query("metric == 'train_loss_nats'")
    assert found[["step", "value"]].values.tolist() == [[4, 2.5], [8, 6.5], [10, 9.5]]
    assert found["layer"].isna().all()


def test_without_losses_there_are_no_rows():
    with joma.watch(model(), torch.randn(2, 8, 16), every=4) as probe:
        for _ in range(4):
            probe.step()
    assert not [row for row in probe.measurements() if row.metric == "train_loss_nats"]


def test_a_loss_that_is_not_finite_is_left_out_with_a_warning():
    losses = Losses()
    losses.add(2.0)
    assert losses.rows(1) == losses.rows(1) == [Row(None, None, None, "train_loss_nats", 2.0)]
    losses.add(torch.tensor(math.nan))
    with pytest.warns(RuntimeWarning, match="the training loss up to step 7 is nan"):
        assert losses.rows(7) == []


NONE = ["2", torch.ones(2), True, torch.tensor(1j), [1.0], 10**400, torch.empty(1, device="meta")]


@pytest.mark.parametrize("loss", NONE, ids=["text", "two", "flag", "complex", "list", "too large", "meta"])
def test_a_loss_that_is_no_number_is_refused(loss):
    with pytest.raises(InvalidArgument, match=r"`loss` is .*; expected a number, or a tensor with one entry"):
        Losses().add(loss)
