import pytest
import torch
from torch import Tensor, nn

from joma.train import products
from joma.train.decoder import Decoder, DecoderConfig
from joma.train.products import Linear, linear, linearised_loss, output_loss

KINDS = [torch.float32, torch.float64]


def drawn(*shape: int, seed: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()


def gradients(result: Tensor, *of: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad((result * torch.linspace(1, 2, result.numel()).view(result.shape)).sum(), of))


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("shape", [(5, 7), (3, 5, 7), (1, 7), (2, 0, 7)])
def test_linear_and_its_gradients_are_those_of_torch(shape, dtype, tolerance):
    x, weight, bias = (drawn(*size, seed=at, dtype=dtype) for at, size in enumerate((shape, (4, 7), (4,))))
    ours, theirs = linear(x, weight, bias), nn.functional.linear(x, weight, bias)
    assert ours.shape == theirs.shape
    for mine, expected in zip(
        [ours, *gradients(ours, x, weight, bias)], [theirs, *gradients(theirs, x, weight, bias)], strict=True
    ):
        assert torch.allclose(mine, expected, rtol=0, atol=tolerance("decoder.parity"))


def test_linear_without_onednn_is_that_of_torch_to_the_bit(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    x, layer = torch.randn(3, 7), Linear(7, 4)
    assert torch.equal(layer(x), nn.functional.linear(x, layer.weight, layer.bias))


def test_linear_gives_no_gradient_to_frozen_weights():
    layer, x = Linear(7, 4).requires_grad_(False), torch.randn(3, 7, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    assert layer.weight.grad is None


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("rows_at_a_time", [1, 4, 100])
@pytest.mark.parametrize("scale", [1, 300])
def test_output_loss_is_cross_entropy(dtype, rows_at_a_time, scale, monkeypatch, tolerance):
    monkeypatch.setattr(products, "MOST_LOGITS_BYTES", rows_at_a_time * 50 * dtype.itemsize)
    x, weight, bias = (drawn(*size, seed=at, dtype=dtype) for at, size in enumerate(((3, 7, 6), (50, 6), (50,))))
    x = (x * scale).detach().requires_grad_()
    targets = torch.randint(50, (3, 7), generator=torch.Generator().manual_seed(3))
    exact = [part.detach().double().requires_grad_() for part in (x, weight, bias)]
    reference = nn.functional.cross_entropy(nn.functional.linear(*exact).flatten(0, 1), targets.flatten())
    ours = output_loss(x, weight, bias, targets)
    assert abs(ours.item() - reference.item()) <= tolerance("decoder.parity") * reference.item()
    for mine, expected in zip(
        torch.autograd.grad(ours * 3, (x, weight, bias)), torch.autograd.grad(reference * 3, exact), strict=True
    ):
        assert (mine - expected).abs().max() <= tolerance("decoder.parity") * expected.abs().max()


def test_output_loss_holds_only_some_rows_of_logits(monkeypatch):
    monkeypatch.setattr(products, "MOST_LOGITS_BYTES", 3 * 50 * 4)
    seen, product = [], products._product
    monkeypatch.setattr(products, "_product", lambda *given: seen.append(product(*given)) or seen[-1])
    decoder = Decoder(DecoderConfig(50, width=8, hidden=8))
    decoder.loss(torch.zeros(2, 5, dtype=torch.int64), torch.ones(2, 5, dtype=torch.int64)).backward()
    assert {len(logits) for logits in seen if logits.shape[-1] == 50 and len(logits) <= 3} == {1, 3}
    assert not any(found.shape == (10, 50) for found in seen)


def frequencies_and_targets() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(50, generator=generator).log_softmax(-1), torch.randint(50, (3, 7), generator=generator)


def test_linearised_loss_is_the_tangent_of_cross_entropy_at_the_frequencies(tolerance):
    log_frequencies, targets = frequencies_and_targets()
    near, there = tolerance("decoder.parity"), log_frequencies.expand(3, 7, 50)
    far = there + drawn(3, 7, 50, seed=1, dtype=torch.float32).detach()
    cross_entropy = [nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()) for logits in (there, far)]
    tangent = [linearised_loss(logits, targets, log_frequencies) for logits in (there, far, far + 3)]
    assert abs(tangent[0] - cross_entropy[0]) <= near
    assert tangent[1] < cross_entropy[1]  # which is convex
    assert abs(tangent[2] - tangent[1]) <= near  # a constant added to all logits changes no probability


def test_gradient_of_the_linearised_loss_is_the_same_wherever_the_logits_are(tolerance):
    log_frequencies, targets = frequencies_and_targets()
    expected = (log_frequencies.exp() - nn.functional.one_hot(targets, 50)) / targets.numel()
    for scale in (0.0, 1.0, 100.0):
        logits = (drawn(3, 7, 50, seed=1, dtype=torch.float32).detach() * scale).requires_grad_()
        (found,) = torch.autograd.grad(linearised_loss(logits, targets, log_frequencies), logits)
        assert (found - expected).abs().max() <= tolerance("decoder.parity")
