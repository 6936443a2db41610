"""Training of many networks of one shape as one: a stack of weights, with a learning rate for each network.

Each run keeps its own folder, measurements and checkpoints, so that it can be resumed alone or in another stack. On an
accelerator one small network leaves most of the device idle, and a stack takes little longer than one of its members.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from joma.devices import device_of
from joma.errors import BadInput, RunFailed
from joma.progress import Progress, silent
from joma.threads import threads
from joma.train.decoder import Decoder, Dropout, seed_of
from joma.train.loop import Loop, deferred_interrupt, keep_freed_pages
from joma.train.products import output_loss
from joma.train.recipes import Recipe
from joma.train.run import Run
from joma.train.tasks import NextToken
from joma.train.text.vocabulary import Tokens
from joma.train.training import DecoderTrainee, opened


def shape_of(recipe: Recipe) -> Recipe:
    """Return the settings that the networks of a stack must share: all but name, seed and learning rate."""
    return replace(recipe, name="shape", seed=0, learning_rate=1.0)


def can_be_stacked(recipe: Recipe) -> bool:
    """Whether networks of this recipe can be trained in a stack: those that learn a text by cross entropy."""
    return recipe.loss == "cross_entropy" and recipe.decoder.num_outputs is None


def train_stack(
    recipes: Sequence[Recipe],
    tokens: Tokens,
    folders: Sequence[Path],
    *,
    batched: bool | None = None,
    progress: Progress = silent,
) -> list[Run | RunFailed]:
    """Train networks of one shape as one, or go on where an earlier call was stopped.

    Each network ends as if it had been trained alone, up to rounding: it has its own initial weights, dropout masks,
    learning rate and gradient clipping. With the L2 penalty of Adam the biases of keys may differ by more: they change
    no output, so that their gradient is rounding alone, which the penalty lets Adam scale up.

    Args:
        recipes: of the networks, with one ``shape_of``.
        tokens: the text that they learn.
        folders: of the runs, one for each.
        batched: whether all networks take a step at once; otherwise one after the other, each to the bit as alone. On
            an accelerator if ``None``: the caches of a CPU are too small for several networks.
        progress: called between any two steps. Ctrl-C and whatever it raises leave checkpoints of all networks behind.

    Returns:
        the runs, or the reason why a network failed while the others went on.

    Raises:
        BadInput: recipes of several shapes, or as for ``train``.
        RunFailed: the disk refuses; what was measured stays.
    """
    shapes = {shape_of(recipe): recipe.name for recipe in recipes}
    if len(shapes) != 1:
        raise BadInput(
            f"a stack of {', '.join(shapes.values()) or 'no network'}",
            expected="networks that differ in name, seed and learning rate only",
            remedy="make a stack of each shape",
        )
    if not can_be_stacked(recipes[0]):
        problem, expected = f"a stack of networks with the loss {recipes[0].loss!r}", "cross_entropy"
        raise BadInput(problem, expected=expected, remedy="train them one by one")
    device = device_of(recipes[0].device, "train_stack")
    with ExitStack() as stack:
        stack.enter_context(threads(recipes[0].num_threads))
        stack.enter_context(torch.random.fork_rng([device] if device.type == "cuda" else []))
        trainees = [
            stack.enter_context(opened(recipe, tokens, folder, device))
            for recipe, folder in zip(recipes, folders, strict=True)
        ]
        failed = _drive(trainees, device.type != "cpu" if batched is None else batched, progress)
    return [failed.get(at, trainee.run) for at, trainee in enumerate(trainees)]


def _drive(trainees: Sequence[DecoderTrainee], batched: bool, progress: Progress) -> dict[int, RunFailed]:
    """Train all to the last step; return the error of each that failed, by its place."""
    loops, failed = [Loop(trainee) for trainee in trainees], dict[int, RunFailed]()
    num_steps, stack = trainees[0].num_steps, None
    with deferred_interrupt() as interrupted:
        keep_freed_pages()
        for loop in loops:
            loop.resume()
        _settle(loops, range(len(loops)), failed)
        while left := [at for at, loop in enumerate(loops) if at not in failed and not loop.is_done]:
            step = min(loops[at].step for at in left)
            last = [at for at in left if loops[at].step == step]  # those that are behind catch up
            if not batched:
                for at in last:
                    loops[at].advance()
            elif stack is None or stack.members != last:
                stack = _Stack(last, [loops[at] for at in last])
            if stack is not None:
                stack.advance()
            _settle(loops, last, failed)
            try:
                progress("training", step + 1, num_steps)
                if interrupted():
                    raise KeyboardInterrupt
            except BaseException:
                for at in left:
                    if at not in failed and loops[at].is_finite:
                        loops[at].save()
                raise
    return failed


def _settle(loops: Sequence[Loop], members: Sequence[int], failed: dict[int, RunFailed]) -> None:
    for at in members:
        try:
            loops[at].settle(silent, lambda: False)
        except RunFailed as error:
            if isinstance(error.__cause__, OSError):  # a full disk stops all
                raise
            failed[at] = error


class _Stack:
    """Networks at one step, whose parameters become slices of common tensors.

    Args:
        members: their places, to know them by.
        loops: of the networks.
    """

    def __init__(self, members: Sequence[int], loops: Sequence[Loop]) -> None:
        self.members, self.loops = members, loops
        self.trainees = [loop.trainee for loop in loops if isinstance(loop.trainee, DecoderTrainee)]
        self.device = loops[0].device
        self.index = torch.arange(len(loops), device=self.device)
        self.generators = [torch.Generator(self.device) for _ in loops]
        self.template = _Features(self.trainees[0].decoder)
        self.weights: dict[str, Tensor] = {}
        for name, parameter in self.trainees[0].decoder.named_parameters():
            own = [trainee.decoder.get_parameter(name) for trainee in self.trainees]
            together = torch.stack([each.detach() for each in own])
            for each, part in zip(own, together.unbind(), strict=True):
                each.data = part
            self.weights[name] = together.requires_grad_(parameter.requires_grad)

    def advance(self) -> None:
        """Take one step with every network."""
        step = self.loops[0].step
        for generator, trainee in zip(self.generators, self.trainees, strict=True):
            generator.manual_seed(seed_of(trainee.seed, "dropout", step))
        task = self.trainees[0].task
        assert isinstance(task, NextToken)
        inputs, targets = task.batch(step)
        features = vmap(partial(self._features, inputs, targets.dim() == 1), randomness="same")(
            self.weights, self.index
        )
        losses = output_loss(features, self.weights["output.weight"], self.weights["output.bias"], targets)
        losses.sum().backward()
        norms = self._pass_on_gradients()
        for trainee in self.trainees:
            trainee.optimizer.step()
        for loop, loss, norm in zip(self.loops, losses, norms, strict=True):
            loop.took(loss, norm)

    def _features(self, inputs: Tensor, last_only: bool, weights: dict[str, Tensor], index: Tensor) -> Tensor:
        named = {f"decoder.{name}": weight for name, weight in weights.items()}
        return functional_call(self.template, named, (inputs, last_only, _Dropouts(self.generators, index)))

    @torch.no_grad()
    def _pass_on_gradients(self) -> Tensor:
        """Clip the gradient of each network, make it that of its parameters, and return its norm before, (M,)."""
        trained = {name: weight for name, weight in self.weights.items() if weight.grad is not None}
        gradients = [weight.grad for weight in trained.values() if weight.grad is not None]
        norms = torch.stack([torch.linalg.vector_norm(part.flatten(1), dim=1) for part in gradients])
        norm = torch.linalg.vector_norm(norms, dim=0)
        factor = (self.trainees[0].gradient_clip / (norm + 1e-6)).clamp(max=1.0)  # as clip_grad_norm_ of torch
        for (name, weight), gradient in zip(trained.items(), gradients, strict=True):
            gradient.mul_(factor.view(-1, *[1] * (gradient.dim() - 1)))
            for trainee, own in zip(self.trainees, gradient.unbind(), strict=True):
                trainee.decoder.get_parameter(name).grad = own
            weight.grad = None
        return norm


class _Features(nn.Module):
    """The inputs of a decoder's output layer, as a module of its own."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, tokens: Tensor, last_only: bool, dropout: Dropout) -> Tensor:
        return self.decoder.features(tokens, last_only=last_only, dropout=dropout)


class _Dropouts(Dropout):
    """The factors of each network, drawn from its own generator.

    Args:
        generators: of the networks.
        index: the place of a network, batched.
    """

    def __init__(self, generators: Sequence[torch.Generator], index: Tensor) -> None:
        super().__init__()
        self._members, self._index = [Dropout(generator) for generator in generators], index.view(1)

    def of_units(self, x: Tensor, probability: float) -> Tensor:
        drawn = torch.stack([member.of_units(x, probability) for member in self._members])
        return drawn.index_select(0, self._index)[0]

    def of_attention(self, weights: Tensor, probability: float) -> Tensor:
        drawn = torch.stack([member.of_attention(weights, probability) for member in self._members])
        return drawn.index_select(0, self._index)[0]
