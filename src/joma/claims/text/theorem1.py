"""Claim text.theorem1: whether Theorem 1 predicts the attention logits of a decoder from the MLP's lower weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from joma.charts import Chart, Curve
from joma.claims.text.motion import NUM_ORDERS, NUM_SEQUENCES, Layer, course, layers_of
from joma.claims.text.networks import Variant, study, trained
from joma.claims.workspace import Profile, Workspace
from joma.correlations import unexplained
from joma.records import Agreement, Control, Criterion, Estimate, Finding

FULL = Variant()
OTHERS = {
    Profile.QUICK: (),
    Profile.FULL: (Variant(num_layers=3), Variant("no LayerNorm"), Variant("frozen value path")),
}
NUM_NAMED = 4

CRITERION = Criterion(
    "correlation of predicted and measured motion of the logits beyond word frequency, mean over training",
    ">=",
    0.7,
    "at 0.7 the prediction explains half of the variance over words that word frequency leaves",
)

MLP_TERM = "½ Σ vₖ² alone"
SEEDS = "correlation of the motion with that of another seed"
RESIDUAL = "residual / motion, prediction in its best scale"

Values = Callable[[Layer], Tensor]


def evaluate(workspace: Workspace) -> Agreement:
    """Compare the motion of the logits of words since the start of training with that predicted from the weights."""
    variants = (FULL, *OTHERS[workspace.profile])
    networks = _layers(workspace, variants)
    first = next(iter(networks.values()))
    measured, controls, findings = compared(first)
    others = {name: layers for name, layers in networks.items() if layers is not first}
    in_others = (
        Finding(f"{what}, {name}", _over_training(layers, values))
        for name, layers in others.items()
        for what, values in (("deciding number", _agreement), (MLP_TERM, _mlp_term))
    )
    charts = (_correlation_chart(first), _words_chart(workspace, first[0]))
    return Agreement(
        CRITERION,
        measured,
        controls,
        conclusion=_conclusion(measured, controls, findings),
        findings=(*findings, *in_others),
        charts=(*charts, _networks_chart(networks)) if others else charts,
        notes=_notes(workspace, first[0]),
    )


def compared(layers: Sequence[Layer]) -> tuple[Estimate, tuple[Control, ...], tuple[Finding, ...]]:
    """Return the deciding number, the controls and the findings of one layer of a network, over seeds."""
    measured = _over_training(layers, _agreement)
    controls = (
        Control(f"words permuted (mean of {NUM_ORDERS})", _over_training(layers, Layer.permuted)),
        *_by_another_seed(layers),
        Control(MLP_TERM, _over_training(layers, _mlp_term)),
        Control("−½ Σ ‖wₖ‖² b̄ alone", _over_training(layers, lambda layer: layer.agreement(layer.mean_term))),
        Control("word frequency, in the better direction", _either_way(layers, lambda layer: layer.frequency)),
        Control("growth of the embeddings, in the better direction", _either_way(layers, lambda layer: layer.growth)),
    )
    return measured, controls, _findings(layers)


def _layers(workspace: Workspace, variants: Sequence[Variant]) -> dict[str, tuple[Layer, ...]]:
    """The layers of all networks by name, one for each seed."""
    found = {}
    for variant, runs in zip(variants, trained(workspace, variants), strict=True):
        for number, layers in enumerate(zip(*(layers_of(workspace.tokens(), run) for run in runs), strict=True)):
            found[_name(variant) if variant.num_layers == 1 else f"{_name(variant)}, layer {number}"] = layers
    workspace.progress("logits and weights of words", 1, 1)
    return found


def _name(variant: Variant) -> str:
    return variant.name if variant.num_layers == 1 else f"{variant.name} of {variant.num_layers} layers"


def _agreement(layer: Layer) -> Tensor:
    return layer.agreement(layer.predicted)


def _mlp_term(layer: Layer) -> Tensor:
    return layer.agreement(layer.mlp_term)


def _over_training(layers: Sequence[Layer], values: Values) -> Estimate:
    """The mean over snapshots of a number per step, one value per seed."""
    return Estimate.of(values(layer).mean() for layer in layers)


def _either_way(layers: Sequence[Layer], predicted: Values) -> Estimate:
    return _over_training(layers, lambda layer: layer.agreement(predicted(layer)).mean(0, keepdim=True).abs())


def _another(layers: Sequence[Layer]) -> dict[Layer, Layer]:
    return {layer: layers[number - 1] for number, layer in enumerate(layers)}


def _by_another_seed(layers: Sequence[Layer]) -> tuple[Control, ...]:
    if len(layers) < 2:
        return ()
    another = _another(layers)
    values = _over_training(layers, lambda layer: layer.agreement(another[layer].predicted))
    return (Control("weights of another seed", values),)


def _findings(layers: Sequence[Layer]) -> tuple[Finding, ...]:
    first = layers[0]
    numbers: dict[str, tuple[Values, str]] = {
        "correlation, word frequency not removed": (
            lambda layer: layer.agreement(layer.predicted, beyond_frequency=False),
            "",
        ),
        RESIDUAL: (
            lambda layer: unexplained(layer.predicted, layer.measured, layer.counts),
            "1: nothing is explained",
        ),
        "residual / motion, prediction as it is": (
            lambda layer: unexplained(layer.predicted, layer.measured, layer.counts, 1.0),
            "the scale holds for orthonormal tokens and a sum over queries",
        ),
        "correlation after the last step": (lambda layer: _agreement(layer)[-1:], ""),
        "correlation, unknown words as one of the words": (
            lambda layer: layer.with_unknown().agreement(layer.with_unknown().predicted),
            f"{first.with_unknown().frequency.max():.0%} of the probe is one word then",
        ),
        "correlation with b̄ as measured at each step": (
            lambda layer: layer.agreement(layer.with_present_mean),
            "in the theorem, b̄ is constant",
        ),
        "correlation of the formula for orthonormal tokens": (
            lambda layer: layer.agreement(layer.uncorrected),
            "½ Σ (vₖ² − ‖vₖ‖² b̄)",
        ),
    }
    found = [Finding(name, _over_training(layers, values), text) for name, (values, text) in numbers.items()]
    if len(layers) > 1:
        another = _another(layers)
        alike = _over_training(layers, lambda layer: layer.agreement(another[layer].measured))
        found.append(Finding(SEEDS, alike, "what the text alone determines"))
    return tuple(found)


def _conclusion(measured: Estimate, controls: Sequence[Control], findings: Sequence[Finding]) -> str:
    means = {control.name: control.estimate.mean for control in controls}
    means |= {finding.name: finding.estimate.mean for finding in findings}
    other = ""
    if SEEDS in means:
        other = (
            f" With the weights of another seed, which the theory does not relate to these logits, the correlation is "
            f"{means['weights of another seed']:.2f}; the logits of two seeds themselves move alike at "
            f"{means[SEEDS]:.2f}."
        )
    return (
        "The motion of the attention logits that Theorem 1 predicts from the MLP's lower weights correlates with the "
        f"measured motion at {measured.mean:.2f}, beyond what word frequency explains.{other} In its best scale the "
        f"prediction leaves {means[RESIDUAL]:.0%} of the motion unexplained, in a network that violates the theorem's "
        "assumptions: it has residual connections, LayerNorm, a trained value path and Adam."
    )


def _correlation_chart(layers: Sequence[Layer]) -> Chart:
    curves: dict[str, Values] = {
        "whole formula": _agreement,
        MLP_TERM: _mlp_term,
        "−½ Σ ‖wₖ‖² b̄ alone": lambda layer: layer.agreement(layer.mean_term),
        "words permuted": Layer.permuted,
    }
    if len(layers) > 1:
        another = _another(layers)
        curves["weights of another seed"] = lambda layer: layer.agreement(another[layer].predicted)
    (name, whole), *controls = curves.items()
    return Chart(
        "correlation",
        "Predicted and measured motion of the attention logits",
        "Correlation over words of the change since the start, weighted by frequency, the logarithm of which is "
        "partialled out. Bands: one standard deviation over seeds.",
        "optimiser steps",
        "correlation over words",
        (
            course(layers, whole).curve(name),
            *(course(layers, values).curve(label, "control") for label, values in controls),
        ),
    )


def _networks_chart(networks: Mapping[str, Sequence[Layer]]) -> Chart:
    return Chart(
        "networks",
        "The same in other networks, layer by layer",
        "The whole formula. Bands: one standard deviation over seeds.",
        "optimiser steps",
        "correlation over words",
        tuple(course(layers, _agreement).curve(name) for name, layers in networks.items()),
    )


def _words_chart(workspace: Workspace, layer: Layer) -> Chart:
    """Every word's predicted and measured motion after the last step in one network, the commonest words named."""
    shares = layer.counts / layer.counts.sum()
    predicted, measured = (part[-1] - part[-1] @ shares for part in (layer.predicted, layer.measured))
    scale = float(measured.square() @ shares / (predicted.square() @ shares)) ** 0.5
    x, y = (predicted * scale).tolist(), measured.tolist()
    vocabulary = workspace.tokens().vocabulary
    named = layer.counts.argsort(descending=True)[:NUM_NAMED].tolist()
    dots = (Curve(f"“{vocabulary[int(layer.ids[at])]}”", (x[at],), (y[at],), joined=False) for at in named)
    return Chart(
        "words",
        f"Motion of the attention logit of every word, step {layer.steps[-1]:,}",
        "One dot for each word of the probe, one seed, the commonest words named; the prediction is scaled to the "
        "spread of the measured motion. Where the prediction holds, the dots lie on a rising line.",
        "predicted motion, scaled",
        "measured motion",
        (Curve(f"{len(x):,} words", tuple(x), tuple(y), role="context", joined=False), *dots),
    )


def _notes(workspace: Workspace, layer: Layer) -> tuple[str, ...]:
    sizes = study(workspace)
    notes = [
        f"{sizes.num_steps:,} steps of Adam at {sizes.learning_rate:g}; the runs are those of text.sparse_then_dense.",
        f"{len(layer.ids):,} words of {NUM_SEQUENCES} held-out windows; a word's vector is the mean of the layer's "
        "inputs where it stands, and its weights are derivatives of the preactivations in the attention to it, mean "
        "over queries, through LayerNorm.",
    ]
    if left_out := [_name(variant) for variant in OTHERS[Profile.FULL] if workspace.profile is Profile.QUICK]:
        notes.append(f"Left out in this profile: {'; '.join(left_out)}; included with --profile full.")
    return tuple(notes)
