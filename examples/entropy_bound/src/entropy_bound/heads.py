"""Claim entropy.bound: the entropy of every query of trained networks, against the bound from its logits."""

import math

import torch
from torch import Tensor

from joma.charts import Chart, Curve
from joma.claims.hierarchy.order import SIZES, recipe, tree
from joma.claims.workspace import Workspace
from joma.records import Agreement, Control, Criterion, Estimate, Finding
from joma.train.decoder import Decoder
from joma.train.hierarchies import seeded_samples

CRITERION = Criterion(
    "smallest difference between a query's entropy and the bound, nats",
    ">=",
    -1e-12,
    "it is 0 up to rounding, which changes an entropy of a few nats by some 1e-15",
)


def bound(norm: Tensor, num_keys: int) -> Tensor:
    """Return the smallest entropy (nats) of softmax over logits whose centred norm is at most ``norm``.

    It is attained if one logit is above all others and these are equal.
    """
    gap = norm * math.sqrt(num_keys / (num_keys - 1))
    others = (num_keys - 1) * torch.exp(-gap)
    return torch.log1p(others) + others * gap / (1 + others)


def queries(decoder: Decoder, tokens: Tensor) -> dict[int, tuple[Tensor, Tensor]]:
    """Return the norm of the centred logits and the entropy of every query, by its number of visible keys, from 2."""
    seen = []
    with torch.no_grad():
        decoder(tokens, lambda layer, q, k: seen.append(q.double() @ k.double().mT / math.sqrt(q.shape[-1])))
    found = {}
    for num_keys in range(2, tokens.shape[1] + 1):
        logits = torch.cat(seen)[..., num_keys - 1, :num_keys].flatten(0, 1)
        norm = (logits - logits.mean(-1, keepdim=True)).norm(dim=-1)
        found[num_keys] = norm, torch.special.entr(logits.softmax(-1)).sum(-1)
    return found


def evaluate(workspace: Workspace) -> Agreement:
    """Compare the entropies of all queries with the bound, in several networks."""
    sizes, seeds = SIZES[workspace.profile], workspace.seeds(5)
    laws = [tree(sizes, seed) for seed in seeds]
    runs = workspace.train_on([(recipe(law, sizes, seed), law) for law, seed in zip(laws, seeds, strict=True)])
    differences: dict[float, list[Tensor]] = {1.0: [], 0.5: []}
    heights, shares = [], []
    for run, law in zip(runs, laws, strict=True):
        found = queries(run.decoder(), seeded_samples(law, 256, seed=run.recipe.seed, shuffled=True).tokens)
        for scale, smallest in differences.items():
            above = [entropy - bound(scale * norm, num_keys) for num_keys, (norm, entropy) in found.items()]
            smallest.append(torch.cat(above).min())
        num_keys = max(found)
        norm, entropy = found[num_keys]
        least = bound(norm, num_keys)
        heights.append((entropy - least).mean())
        shares.append(((entropy - least) / (math.log(num_keys) - least)).mean())
    measured = Estimate.of(differences[1.0], "nats", why_equal="over two keys attention attains the bound")
    half = Estimate.of(differences[0.5], "nats")
    height, share = Estimate.of(heights, "nats"), Estimate.of(shares)
    kept = "is never" if CRITERION.met_by(measured) else f"is up to {-measured.mean:.2g} nats"
    half_bound = "is violated" if CRITERION.met_by(half) is False else "may hold as well"
    return Agreement(
        CRITERION,
        measured,
        (Control("the bound for half the norm", half),),
        conclusion=f"Attention entropy {kept} below the bound that follows from the norm of the logits, while the "
        f"bound for half that norm {half_bound}. Queries that see all keys are on average {height.mean:.2f} nats above "
        f"the bound, {share.mean:.0%} of the way to uniform attention.",
        findings=(
            Finding(f"height above the bound, queries that see all {num_keys} keys", height),
            Finding("the same as a share of the way from the bound to uniform attention", share),
        ),
        charts=(chart(num_keys, norm, entropy),),
        notes=("Over two keys attention always attains the bound, so the smallest difference is 0 at most.",),
    )


def chart(num_keys: int, norm: Tensor, entropy: Tensor) -> Chart:
    """Draw entropies against the norm of the logits, in twenty groups of equally many queries."""
    groups = norm.argsort().chunk(20)
    norms = torch.stack([norm[group].max() for group in groups])
    lowest, mean, highest = (
        [float(read(entropy[group])) for group in groups] for read in (torch.min, torch.mean, torch.max)
    )
    x = norms.tolist()
    return Chart(
        "bound",
        f"Attention entropy of queries that see {num_keys} keys, and the bound",
        "Queries of the last network in groups of similar norm: mean, lowest and highest entropy of each. No query may "
        "be below the bound.",
        "norm of the centred attention logits (largest of the group)",
        "attention entropy (nats)",
        (
            Curve("queries of the trained network", x, mean, lowest, highest),
            Curve("bound", x, bound(norms, num_keys).tolist(), role="predicted"),
            Curve("bound for half the norm", x, bound(norms / 2, num_keys).tolist(), role="control"),
        ),
    )
