"""``joma simulate``: train the one-layer model and say what became of Theorem 1's invariant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse.typing import PositiveInt

from joma.cli.numbers import Given, numbers
from joma.cli.output import conclude, folder_of, show
from joma.cli.parsing import Parser
from joma.errors import BadInput, RunFailed

if TYPE_CHECKING:
    import torch

    from joma.problem.one_layer import OneLayer, Parameters
    from joma.simulate.conservation import Conservation
    from joma.simulate.trajectory import Trajectory

FLOW_ONLY = ("t", "method", "tolerance", "runge_kutta")
DESCENT_ONLY = ("learning_rate", "num_steps", "batch_size")
ACTIVATIONS = ["identity", "tanh", "relu", "gelu", "softplus", "sigmoid", "silu"]
LOSSES = ["cross_entropy", "squared_error", "constant_gradient"]
METHODS = ["DOP853", "RK45", "LSODA", "Radau", "BDF"]
OPTIMIZERS = ["sgd", "momentum", "adam"]
FILES = ("simulation.json", "trajectory.safetensors", "logits.svg", "logits.png", "drift.svg", "drift.png")
DEFAULT_TIMES = "0:20:0.5"
MOST_NUMBERS = 2**27
"""How many numbers data and snapshots hold at most: 1 GB."""

SNAPSHOTS = 100
"""How many snapshots a descent leaves behind, about."""

LARGEST_MOVE = 3.0
"""How far embeddings are moved at most, in units of a Gaussian per coordinate: they are random from there on."""

REMEDIES = {
    "stopped": "ask for earlier times with --t, try --method LSODA, or take a smaller step with --runge-kutta",
    "too_many_evaluations": "stiff: try --method LSODA; kinks, as relu has: try --runge-kutta 0.05",
    "diverged": "lower --learning-rate",
}


def add_options(parser: Parser) -> None:
    """Add the options of ``joma simulate``."""
    add = parser.add_argument
    add("--attention", choices=["linear", "exp", "softmax"], default="softmax", help="how logits become weights")
    add("--temperature", type=float, default=1.0, metavar="T", help="of exp and softmax attention")
    add("--activation", choices=ACTIVATIONS, default="tanh", help="φ of the MLP")
    add("--loss", choices=LOSSES, default="cross_entropy", help="of the outputs")
    add("--fixed-upper", action="store_true", help="leave the upper layer as it starts")
    add("--coherence", type=float, default=0.0, help="max |UᵀU − I| of the token embeddings; 0: orthonormal")
    add("--seeds", type=PositiveInt, default=1, metavar="N", help="problems at once, each with its own data and start")
    add("--tokens", type=PositiveInt, default=12, metavar="N", help="contextual tokens")
    add("--classes", type=PositiveInt, default=4, metavar="N", help="classes of samples, which differ in their tokens")
    add("--hidden", type=PositiveInt, default=8, metavar="N", help="hidden units of the MLP")
    add("--samples", type=PositiveInt, default=32, metavar="N", help="samples of each query")
    add("--length", type=PositiveInt, default=8, metavar="N", help="tokens of each sample")
    add("--queries", type=PositiveInt, default=1, metavar="N", help="queries, each with its own attention logits")
    add("--scale", type=float, default=0.3, help="standard deviation of the weights at the start")
    add("--logit", type=float, default=1.0, help="every attention logit at the start")
    add("--t", type=Given, metavar="NUMBERS", help=f"times of the gradient flow (default: {DEFAULT_TIMES})")
    add("--method", choices=METHODS, help="solver of the flow (default: DOP853)")
    add("--tolerance", type=float, help="of the solver, relative and absolute (default: 1e-10)")
    add("--runge-kutta", type=float, metavar="STEP", help="fixed steps of the flow in place of a solver, for relu")
    add("--optimizer", choices=OPTIMIZERS, help="finite steps in place of the flow")
    add("--learning-rate", type=float, metavar="η", help="of the optimizer")
    add("--num-steps", type=PositiveInt, metavar="N", help="how many steps of the optimizer")
    add("--batch-size", type=PositiveInt, metavar="N", help="samples of each query in a step (default: all)")
    add("--out", type=str, metavar="DIR", help="write the trajectory, simulation.json and pictures there")
    parser.share("--device", "--workers", "--json")


def run(options: Any) -> int:
    """Simulate, print, write, return the exit status."""
    _check_together(options)
    folder = folder_of(options.out)
    at = numbers(DEFAULT_TIMES if options.t is None else options.t, "--t")

    from joma.report.simulation import simulation_record, simulation_summary, simulation_table
    from joma.simulate.conservation import conservation_of

    if len(at) < 2:
        raise BadInput("--t holds one time", expected="at least two", remedy="give a start and an end, such as 0,10")
    _check_size(options, len(at))
    model, start = _problem(options)
    trajectory = _trajectory(options, model, start, at)
    found = conservation_of(model, trajectory, "t" if options.optimizer is None else "step")
    record = simulation_record(found, trajectory.status, _settings(options))
    if folder is not None:
        _write(folder, trajectory, found, record)
    show(record, [simulation_table(found)], as_json=options.json)
    conclude(simulation_summary(found), folder, FILES, as_json=options.json)
    if not trajectory.status.ok:
        kept = f"{len(trajectory.times)} snapshots up to {float(trajectory.times[-1]):g} are kept"
        remedy = REMEDIES.get(trajectory.status.name, trajectory.status.remedy)
        raise RunFailed(f"the simulation stopped: {trajectory.status.cause}", kept=kept, remedy=remedy)
    return 0


def _check_together(options: Any) -> None:
    """Refuse options that the others leave without effect."""
    descends = options.optimizer is not None
    for name in FLOW_ONLY if descends else DESCENT_ONLY:
        if getattr(options, name) is not None:
            raise BadInput(
                f"{_flag(name)} has no effect {'with' if descends else 'without'} --optimizer",
                expected=f"options of {'finite steps' if descends else 'the gradient flow'}",
                remedy=f"leave it out, or {'leave out' if descends else 'give'} --optimizer",
            )
    for name in ("learning_rate", "num_steps"):
        if descends and getattr(options, name) is None:
            raise BadInput("--optimizer alone", expected=f"{_flag(name)} with it", remedy="give both")
    for name in ("method", "tolerance"):
        if options.runge_kutta is not None and getattr(options, name) is not None:
            raise BadInput(f"{_flag(name)} has no effect with --runge-kutta", expected="one of them", remedy="choose")
    if options.attention == "softmax" and options.queries > 1 and options.optimizer not in (None, "sgd"):
        raise BadInput(
            f"softmax attention over {options.queries} queries with --optimizer {options.optimizer}",
            expected="the flow or sgd, along which the exact identity can be followed (Theorem 1 says nothing here)",
            remedy="take --queries 1, --attention exp or --optimizer sgd",
        )


def _check_size(options: Any, num_times: int) -> None:
    """Refuse problems whose data or snapshots would not fit into memory."""
    width = options.tokens + options.queries
    data = options.queries * options.samples * options.tokens * (options.length + options.hidden + options.classes)
    state = width * (width + options.hidden) + options.hidden * options.classes + options.queries * options.tokens
    snapshots = num_times if options.optimizer is None else SNAPSHOTS
    if (numbers := options.seeds * (data + snapshots * state)) > MOST_NUMBERS:
        raise BadInput(
            f"these sizes need some {8e-9 * numbers:.3g} GB for {numbers:.3g} numbers",
            expected=f"at most {MOST_NUMBERS:,} numbers in data and snapshots",
            remedy="take fewer --seeds, --samples, --tokens, --hidden, --queries or --t",
        )


def _problem(options: Any) -> tuple[OneLayer, Parameters]:
    from joma.domains import FINITE
    from joma.problem.classes import classification_data, gaussian_classes, random_parameters
    from joma.problem.one_layer import OneLayer

    FINITE.check(options.logit, "simulate", "logit")
    seeds = range(options.seeds)
    law = gaussian_classes(options.classes, options.tokens, width=options.tokens / 6)
    model = OneLayer(
        *classification_data(law, options.samples, options.length, seeds, options.queries),
        *_embeddings(options.tokens, options.queries, options.coherence, seeds),
        attention=options.attention,
        temperature=options.temperature,
        activation=options.activation,
        loss=options.loss,
        trains_upper=not options.fixed_upper,
    )
    return model, random_parameters(model, options.hidden, seeds, options.scale, options.logit)


def _embeddings(
    n_context: int, n_queries: int, wanted: float, seeds: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors, orthonormal or moved at random just as far as gives the token embeddings the coherence wanted."""
    import torch
    from scipy.optimize import brentq

    from joma.domains import FRACTION
    from joma.problem.one_layer import orthonormal_embeddings
    from joma.theory.embeddings import coherence

    FRACTION.check(wanted, "simulate", "coherence")
    tokens, queries = orthonormal_embeddings(n_context, n_queries)
    if wanted == 0.0:
        return tokens, queries
    exact, moved = torch.cat([tokens, queries], -1), []
    for seed in seeds:
        noise = torch.randn(exact.shape, dtype=exact.dtype, generator=torch.Generator().manual_seed(seed))

        def at(size: float, noise: torch.Tensor = noise) -> torch.Tensor:
            return torch.nn.functional.normalize(exact + size * noise, dim=-2)

        def above(size: float, at: Callable[[float], torch.Tensor] = at) -> float:
            return float(coherence(at(size)[:, :n_context])) - wanted

        most = wanted + above(LARGEST_MOVE)
        if most < wanted:
            raise BadInput(
                f"--coherence is {wanted:g}",
                expected=f"at most {most:.2g}, which {n_context} random vectors reach (seed {seed})",
                remedy="lower it, or take more --tokens",
            )
        moved.append(at(brentq(above, 0.0, LARGEST_MOVE)))
    together = torch.stack(moved)
    return together[..., :n_context], together[..., n_context:]


def _trajectory(options: Any, model: OneLayer, start: Parameters, at: list[float]) -> Trajectory:
    """Simulate where the options say, and bring what was found back."""
    from joma.devices import device_of, moved
    from joma.report.progress import shown
    from joma.simulate.descent import Minibatches, descent
    from joma.simulate.flow import Adaptive, FixedStep, flow
    from joma.threads import threads

    device = device_of(options.device, "simulate")
    model, start = moved(model, device), moved(start, device)
    with shown() as progress, nullcontext() if options.workers is None else threads(options.workers):
        if options.optimizer is not None:
            steps = [*range(0, options.num_steps, max(1, options.num_steps // SNAPSHOTS)), options.num_steps]
            batches = None if options.batch_size is None else Minibatches(options.batch_size)
            found = descent(model, start, steps, options.learning_rate, options.optimizer, batches, progress=progress)
        elif options.runge_kutta is not None:
            found = flow(model, start, at, solver=FixedStep(options.runge_kutta), progress=progress)
        else:
            chosen = {name: getattr(options, name) for name in ("method", "tolerance")}
            solver = Adaptive(**{name: value for name, value in chosen.items() if value is not None})
            found = flow(model, start, at, solver=solver, progress=progress)
    return moved(found, "cpu")


def _settings(options: Any) -> dict[str, Any]:
    """The options that the numbers depend on."""
    given = vars(options)
    return {name: value for name, value in given.items() if name not in ("config", "json", "out", "workers")}


def _write(folder: Path, trajectory: Trajectory, found: Conservation, record: dict[str, Any]) -> None:
    from joma.files import write_json
    from joma.report.drawing.figures import write_figures
    from joma.report.simulation import simulation_charts
    from joma.simulate.trajectory import save_trajectory

    save_trajectory(trajectory, folder / "trajectory.safetensors")
    write_json(folder / "simulation.json", record)
    write_figures(simulation_charts(found), folder)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
