import math

import pytest
import torch
from small_models import small_batch, small_model

from joma.measure.capture.outputs import agree, changed_by_observation

X = torch.randn(2, 3, 4)


def changed(value, place=(1, 2, 3)):
    other = X.clone()
    other[place] = value
    return other


@pytest.mark.parametrize(
    ("seen", "plain", "same"),
    [
        (X, X.clone(), True),
        (X * (1 + 1e-6), X, True),
        ({"a": X, "b": (X, 3)}, {"a": X, "b": (X, 4)}, True),
        (changed(math.nan), changed(math.nan), True),
        (changed(math.inf), changed(math.inf), True),
        (changed(math.nan), X, False),
        (X, changed(math.inf), False),
        (changed(X[1, 2, 3] + 0.01), X, False),
        (torch.cat([X, X]), X, False),
        ((X, X), (X,), False),
        (torch.tensor(1.0), torch.tensor(1.1), False),
        (torch.zeros(2, 2), torch.zeros(2, 2), True),
    ],
)
def test_outputs_agree_if_every_row_of_every_tensor_does(seen, plain, same):
    assert agree(seen, plain) is same


def test_one_small_row_next_to_large_ones_is_compared_by_its_own_size():
    plain = torch.cat([1e6 * torch.ones(1000, 4), torch.ones(1, 4)])
    seen = plain.clone()
    seen[-1, 0] = 1.01
    assert not agree(seen, plain)


def test_positions_that_are_not_kept_are_not_compared():
    kept = torch.ones(2, 3).bool()
    kept[1, 2] = False
    assert agree((changed(9), torch.ones(2)), (X, torch.ones(2)), kept)
    assert not agree(changed(9, (0, 2, 3)), X, kept)


def test_the_error_says_whether_outputs_change_by_themselves():
    model, batch = small_model("llama"), small_batch("llama")
    plain = model(**batch)
    outputs = iter([plain, model(batch["input_ids"] + 1)])
    assert "computes something else while its attention" in str(changed_by_observation(model, plain, outputs.__next__))
    assert "gives other outputs when it is run again" in str(changed_by_observation(model, plain, outputs.__next__))
