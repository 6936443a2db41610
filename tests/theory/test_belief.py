"""Posteriors, likelihoods and correlations of every law against sums over all states of small ones."""

import itertools
import math
from collections import defaultdict

import numpy as np
import pytest
import torch

from joma.errors import InvalidArgument
from joma.problem.combinatorial import Combinatorial, random_hierarchy
from joma.problem.filtered import filtered
from joma.problem.laws import hierarchy_of, token_presence
from joma.problem.random_hierarchy import RandomHierarchy
from joma.problem.tree import LatentTree, balanced_tree
from joma.problem.unrelated import UnrelatedLabels
from joma.theory.belief import posterior
from joma.theory.correlations import (
    correlation_threshold,
    sample_complexity,
    token_correlations,
    tuple_label_correlations,
)
from joma.theory.labels import ceiling_of

LATENT_TREES = {
    "tree": balanced_tree((2, 1, 2), (0.7, -0.5, 0.9), num_labels=3, seed=1, jitter=0.1),
    "uneven": LatentTree(
        (-1, 0, 0, 1, 1, 2, 3, 4, 4, 5),
        (0, 0.3, -0.9, 0.5, -0.2, 1.0, 0.8, 0.1, -1.0, 0.6),
        ((-1, 1), (1, 1)),
        (0.3, 0.7),
    ),
}
MODELS = {
    "model": RandomHierarchy(3, 3, 2, branching=2, depth=2, seed=2),
    "ternary": RandomHierarchy(2, 3, 2, branching=3, depth=2, seed=1),
    "deep": RandomHierarchy(2, 2, 1, branching=2, depth=3),
    "uncorrelated": RandomHierarchy(2, 3, 2, branching=2, depth=2, uncorrelated=True),
}
SETS = {
    "sets": Combinatorial(
        ((((0, 1), (1, 2)), ((1, 3),), ((0,),)), (((0, 1),), ((1, 2), (0, 2)))), 4, 4, 0.7, (0.4, 0.6)
    ),
    "table": random_hierarchy(5, (4, 4), 2, num_tokens=8, length=8),
}  # fmt: skip

MANY = {
    "sets": SETS["sets"],
    "three levels": Combinatorial(
        ((((0, 1),), ((1, 2),), ((0, 2),)), (((0, 1), (1, 2)), ((2,),)), (((0,),), ((1,),), ((0, 1),))),
        3, 3, 0.8, (0.5, 0.2, 0.3),
    ),
}  # fmt: skip
DRAWN = Combinatorial(((((0, 1), (1, 2)), ((1, 3), (0,))), (((0, 1),), ((1,), (0,)))), 4, 4)


def states_of(law):
    """{(label, symbols of each level from the lowest, tokens): probability}, by the definition of each law."""
    if isinstance(law, UnrelatedLabels):
        prior = law.law.label_probabilities if hasattr(law.law, "label_probabilities") else None
        found = defaultdict(float)
        for (_, *rest), p in states_of(law.law).items():
            for label, share in enumerate(prior or [1 / law.num_labels] * law.num_labels):
                found[label, *rest] += p * share
        return found
    if isinstance(law, RandomHierarchy):
        return model_states(law)
    return tree_states(law) if isinstance(law, LatentTree) else set_states(law)


def model_states(law):
    found = defaultdict(float)
    for label in range(law.num_classes):
        if law.filtered_above is None:
            tops, level = {(label,): 1.0}, law.depth - 1
        else:
            whole = RandomHierarchy(
                law.num_classes, law.num_symbols, law.num_synonyms, law.branching, law.depth, law.seed, law.uncorrelated
            )
            level, alone = law.filtered_above, defaultdict(lambda: defaultdict(float))
            for (y, *symbols, tokens), p in model_states(whole).items():
                if y == label:
                    for place, symbol in enumerate([tokens, *symbols][level + 1]):
                        alone[place][symbol] += p * law.num_classes
            tops = {
                combination: math.prod(alone[place][symbol] for place, symbol in enumerate(combination))
                for combination in itertools.product(range(law.num_symbols), repeat=len(alone))
            }
        paths = [((top,), p) for top, p in tops.items() if p > 0]
        for rules in reversed(law.rules[: level + 1]):
            below = []
            for path, p in paths:
                for choice in itertools.product(range(law.num_synonyms), repeat=len(path[0])):
                    tuples = [tuple(rules[parent, rule].tolist()) for parent, rule in zip(path[0], choice, strict=True)]
                    below.append(((sum(tuples, ()), *path), p / law.num_synonyms ** len(choice)))
            paths = below
        for (tokens, *latents), p in paths:
            kept = latents if law.filtered_above is not None else latents[:-1]
            found[label, *kept, tokens] += p / law.num_classes
    return found


def tree_states(tree):
    found, num = defaultdict(float), len(tree.parents)
    prior = tree.label_probabilities or (1 / tree.num_labels,) * tree.num_labels
    for label, signs in itertools.product(range(tree.num_labels), itertools.product((-1, 1), repeat=num - 1)):
        probability, state = prior[label], (0, *signs)
        for node in range(1, num):
            parent = tree.parents[node]
            above = state[parent] if parent else tree.label_signs[label][tree.levels[1].index(node)]
            probability *= (1 + tree.polarities[node] * above * state[node]) / 2
        tokens, *levels = [tuple((state[node] + 1) // 2 for node in level) for level in reversed(tree.levels[1:])]
        found[label, *levels, tokens] += probability
    return found


def set_states(law):
    found = defaultdict(float)
    prior = law.label_probabilities or (1 / law.num_labels,) * law.num_labels
    for label, p in enumerate(prior):
        paths = [(({label},), p)]
        for members in reversed(law.members):
            paths = [
                ((below, *path), p * share)
                for path, p in paths
                for below, share in shown_sets([members[latent] for latent in sorted(path[0])], law.show_probability)
            ]
        for (tokens, *levels, _), p in paths:
            sizes = [*law.level_sizes]
            masks = [tuple(int(i in there) for i in range(size)) for there, size in zip(levels, sizes, strict=True)]
            found[label, *masks, tuple(int(i in tokens) for i in range(law.num_tokens))] += p
    return found


def shown_sets(latents, show):
    """Every choice of an alternative, and of which members are shown, for every latent."""
    for chosen in itertools.product(*latents):
        slots = [member for members in chosen for member in members]
        weight = math.prod(1 / len(latent) for latent in latents)
        for flags in itertools.product((0, 1), repeat=len(slots)):
            share = math.prod(show if flag else 1 - show for flag in flags)
            if share:
                yield {slot for slot, flag in zip(slots, flags, strict=True) if flag}, weight * share


def num_symbols(law):
    return law.num_symbols if isinstance(law := hierarchy_of(law), RandomHierarchy) else 2


def sequences(law, tokens):
    """The states' tokens as the law writes them."""
    if isinstance(hierarchy_of(law), RandomHierarchy):
        return torch.tensor(tokens)
    present = [[token for token, there in enumerate(row) if there] for row in tokens]
    return torch.tensor([[law.padding] * (law.length - len(row)) + row for row in present])


EVERY = LATENT_TREES | MODELS | SETS
EVERY |= {f"{name} filtered at {level}": filtered(law, level)
          for name, law in (LATENT_TREES | MODELS).items() for level in range(-1, len(law.level_sizes))}  # fmt: skip
EVERY |= {"three levels": MANY["three levels"], "drawn table": DRAWN}
EVERY |= {f"unrelated to {name}": UnrelatedLabels(EVERY[name]) for name in ("uneven", "ternary", "sets", "drawn table")}


@pytest.mark.parametrize("law", EVERY.values(), ids=EVERY)
def test_posterior_and_likelihood_are_sums_over_all_states(law, tolerance):
    states = states_of(law)
    assert sum(states.values()) == pytest.approx(1, abs=1e-12)
    inputs = sorted({state[-1] for state in states})
    rows = {tokens: row for row, tokens in enumerate(inputs)}
    num = num_symbols(law)
    labels = np.zeros((len(inputs), law.num_labels))
    places = [len(level) for level in next(iter(states))[1:-1]]
    latents = [np.zeros((len(inputs), size, num)) for size in places]
    for (label, *levels, tokens), p in states.items():
        labels[rows[tokens], label] += p
        for level, symbols in enumerate(levels):
            latents[level][rows[tokens], np.arange(len(symbols)), symbols] += p
    total = labels.sum(1)
    found = posterior(law, sequences(law, inputs))
    within = tolerance("belief.sums")
    assert np.abs(found.labels.numpy() - labels / total[:, None]).max() < within
    assert np.abs(found.log_likelihood.numpy() - np.log(total)).max() < within
    assert len(found.latents) == len(latents)
    for mine, summed in zip(found.latents, latents, strict=True):
        assert np.abs(mine.numpy() - summed / total[:, None, None]).max() < within


@pytest.mark.parametrize("law", EVERY.values(), ids=EVERY)
@pytest.mark.parametrize("label", [0, None])
def test_token_correlations_are_sums_over_all_states(law, label, tolerance):
    states = {state: p for state, p in states_of(law).items() if label in (None, state[0])}
    num, symbols = len(next(iter(states))[-1]), num_symbols(law)
    shares, tokens = np.array([*states.values()]), np.array([state[-1] for state in states])
    one_hot = np.eye(symbols)[tokens].reshape(len(tokens), -1)
    shares = shares / shares.sum()
    both, alone = one_hot.T @ (shares[:, None] * one_hot), shares @ one_hot
    expected = (both - np.outer(alone, alone)).reshape(num, symbols, num, symbols).transpose(0, 2, 1, 3)
    assert np.abs(token_correlations(law, label).numpy() - expected).max() < tolerance("belief.sums")


@pytest.mark.parametrize("law", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("level", [0, 1])
def test_tuple_label_correlations_are_sums_over_all_states(law, level, tolerance):
    found = tuple_label_correlations(law, level)
    tuples = [tuple(rule) for rule in law.rules[level].flatten(0, 1).tolist()]
    places = [range(start, start + law.branching) for start in range(0, len(found) * law.branching, law.branching)]
    expected = tuple_label_sums(law, level, places, tuples)
    assert np.abs(found.numpy() - expected).max() < tolerance("belief.sums")


@pytest.mark.parametrize(
    ("law", "level", "children"),
    [
        (LATENT_TREES["tree"], 0, [(0, 1), (2, 3)]),
        (LATENT_TREES["tree"], 1, [(0,), (1,)]),
        (LATENT_TREES["uneven"], 0, [(0,), (1, 2), (3,)]),
        (LATENT_TREES["uneven"], 1, [(0, 1), (2,)]),
        (SETS["sets"], 0, [(0, 1, 2), (1, 3), (0,)]),
        (MANY["three levels"], 0, [(0, 1), (1, 2), (0, 2)]),
        (MANY["three levels"], 1, [(0, 1, 2), (2,)]),
    ],
)
def test_tuple_label_correlations_of_binary_children_are_sums_over_all_states(law, level, children, tolerance):
    found = tuple_label_correlations(law, level).numpy()
    for place, row in zip(children, found, strict=True):
        patterns = [bits[::-1] for bits in itertools.product((0, 1), repeat=len(place))]
        expected = tuple_label_sums(law, level, [place], patterns)[0]
        assert np.abs(row[: len(patterns)] - expected).max() < tolerance("belief.sums")
        assert not row[len(patterns) :].any()
    apart = UnrelatedLabels(law)
    assert not tuple_label_correlations(apart, level).any()
    assert correlation_threshold(law, level) < correlation_threshold(apart, level) == math.inf


@pytest.mark.parametrize("law", EVERY.values(), ids=EVERY)
def test_correlations_and_threshold_of_every_level_are_sums_over_all_states(law, tolerance):
    hierarchy = hierarchy_of(law)
    for level in range(num_levels(hierarchy)):
        signal, noise, found = 0.0, 0.0, tuple_label_correlations(law, level).numpy()
        for place, row in zip(families(hierarchy, level), found, strict=True):
            patterns = [bits[::-1] for bits in itertools.product((0, 1), repeat=len(place))]
            if isinstance(hierarchy, RandomHierarchy):
                patterns = [tuple(rule) for rule in hierarchy.rules[level].flatten(0, 1).tolist()]
            joint = tuple_label_joint(law, level, [place], patterns)[0]
            alone, prior = joint.sum(1, keepdims=True), joint.sum(0)
            assert np.abs(row[: len(patterns)] - (joint - alone * prior)).max() < tolerance("belief.sums")
            signal += np.square(joint - alone * prior).sum()
            noise += (joint * (1 - joint / np.where(alone > 0, alone, 1))).sum()
        expected = noise / signal if signal > tolerance("belief.sums") ** 2 else math.inf
        assert correlation_threshold(law, level) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def num_levels(hierarchy):
    return hierarchy.top_level + 1 if isinstance(hierarchy, RandomHierarchy) else len(hierarchy.level_sizes)


def families(hierarchy, level):
    """The nodes below each latent of a level."""
    if isinstance(hierarchy, RandomHierarchy):
        size, num = hierarchy.branching, hierarchy.branching ** (hierarchy.depth - 1 - level)
        return [range(start, start + size) for start in range(0, num * size, size)]
    if isinstance(hierarchy, LatentTree):
        places = hierarchy.parent_places[len(hierarchy.levels) - 2 - level]
        return [[i for i, parent in enumerate(places) if parent == node] for node in range(max(places) + 1)]
    return [sorted(set().union(*latent)) for latent in hierarchy.members[level]]


def tuple_label_sums(law, level, places, tuples):
    """P(tuple, label) − P(tuple) P(label) of the symbols of some places of the level below."""
    joint = tuple_label_joint(law, level, places, tuples)
    return joint - joint.sum(2, keepdims=True) * joint.sum((0, 1)) / len(places)


def tuple_label_joint(law, level, places, tuples):
    joint = np.zeros((len(places), len(tuples), law.num_labels))
    for (label, *levels, tokens), p in states_of(law).items():
        row = [tokens, *levels][level]
        for number, place in enumerate(places):
            joint[number, tuples.index(tuple(row[node] for node in place)), label] += p
    return joint


@pytest.mark.parametrize("function", [tuple_label_correlations, correlation_threshold])
def test_levels_without_tuples_are_refused(function):
    for level in (-1, 1):
        with pytest.raises(InvalidArgument, match=rf"{function.__name__}: `level` is {level}"):
            function(SETS["sets"], level)
    for law in (LATENT_TREES["tree"], MODELS["model"]):
        with pytest.raises(InvalidArgument, match="whose tokens depend on the label alone"):
            function(filtered(law, -1), 0)


NOISY = [
    *((law, level) for law in (*LATENT_TREES.values(), MODELS["model"]) for level in (0, 1)),
    (MODELS["ternary"], 0), (filtered(MODELS["model"], 0), 0), *((MANY["three levels"], level) for level in (0, 1)),
]  # fmt: skip


@pytest.mark.parametrize(("law", "level"), NOISY)
def test_at_the_threshold_squared_correlations_equal_the_noise_of_their_estimates(law, level, tolerance):
    """Estimates of P(label | tuple) from few samples against those from all, both times the tuple's probability."""
    num, repetitions = 1000, 400
    samples = law.sample(num * repetitions, torch.Generator().manual_seed(0))
    correlations, noise = tuple_label_correlations(law, level), 0.0
    for numbers in tuple_numbers(law, level, samples).T:
        count = torch.zeros(repetitions, correlations.shape[1], law.num_labels, dtype=torch.float64)
        where = torch.arange(repetitions).repeat_interleave(num), numbers, samples.labels
        count.index_put_(where, torch.ones(1, dtype=torch.float64), accumulate=True)
        seen = count.sum(-1, keepdim=True)
        truth = count.sum(0) / seen.sum(0).clamp_min(1)
        off = (count / seen.clamp_min(1) - truth) * (seen > 0) * seen.mean(0) / num
        noise += float(off.square().sum((1, 2)).mean())
    expected = num * noise / float(correlations.square().sum())
    assert correlation_threshold(law, level) == pytest.approx(expected, rel=tolerance("belief.threshold"))


def tuple_numbers(law, level, samples):
    """The number of the tuple below each latent, as tuple_label_correlations counts them."""
    if isinstance(law, RandomHierarchy):
        below = [samples.tokens, *samples.symbols][level].unflatten(-1, (-1, law.branching))
        return (law.rules[level].flatten(0, 1) == below[:, :, None]).all(-1).int().argmax(-1)
    present = token_presence(law, samples.tokens) if level == 0 else samples.presence[level - 1]
    rows = families(law, level)
    return torch.stack([(present[:, row].long() * 2 ** torch.arange(len(row))).sum(-1) for row in rows], 1)


def test_tuples_that_hardly_occur_change_the_threshold_little():
    """Children that nearly always agree, and children that always do, show the same correlations."""
    rare, never = (correlation_threshold(balanced_tree((2, 2), (0.8, polarity))) for polarity in (0.999, 1.0))
    assert rare == pytest.approx(never, rel=0.01)


def test_threshold_is_infinite_if_classes_differ_only_by_the_order_of_sums():
    members = ((((0,), (1,)),), (((0,),), ((0,),), ((0,),)))  # three classes with the same latent
    shares = (0.37189334840302507, 0.33979242041345215, 0.28831423118352273)
    law = Combinatorial(members, num_tokens=4, length=4, show_probability=0.3, label_probabilities=shares)
    assert correlation_threshold(law) == math.inf


@pytest.mark.parametrize(
    ("function", "law"),
    [
        (tuple_label_correlations, balanced_tree((2, 40), 0.5)),
        (correlation_threshold, balanced_tree((2, 70), 0.5)),
        (correlation_threshold, Combinatorial(((tuple((n,) for n in range(40)),), (((0,),),)), 40, 40)),
        (tuple_label_correlations, RandomHierarchy(1000, 1000, 50, depth=3)),
        (token_correlations, balanced_tree((10, 20, 50), 0.5)),
    ],
)
def test_tables_that_no_memory_holds_are_refused(function, law):
    with pytest.raises(InvalidArgument, match=f"{function.__name__}: `law` is .*at most"):
        function(law)


@pytest.mark.parametrize(
    "function", [token_correlations, tuple_label_correlations, correlation_threshold, sample_complexity]
)
def test_what_is_no_law_is_refused(function):
    with pytest.raises(InvalidArgument, match="`law` is str"):
        function("tree")
    with pytest.raises(InvalidArgument, match="`law` is LatentTree"):
        sample_complexity(LATENT_TREES["tree"])


def test_an_unobserved_place_is_summed_out(tolerance):
    law = filtered(MODELS["model"], 0)
    tokens = law.sample(20, torch.Generator().manual_seed(0)).tokens
    tokens[:, 1] = law.padding
    found = posterior(law, tokens)
    states = states_of(law)
    for row, seen in enumerate(tokens.tolist()):
        labels = np.zeros(law.num_labels)
        for (label, *_, state), p in states.items():
            if all(a in (b, law.padding) for a, b in zip(seen, state, strict=True)):
                labels[label] += p
        assert np.abs(found.labels[row].numpy() - labels / labels.sum()).max() < tolerance("belief.sums")
        assert float(found.log_likelihood[row]) == pytest.approx(math.log(labels.sum()), abs=tolerance("belief.sums"))


def test_unrelated_labels_keep_their_prior_and_the_posterior_of_latents():
    law = LATENT_TREES["uneven"]
    tokens = law.sample(30, torch.Generator().manual_seed(0)).tokens
    plain, apart = posterior(law, tokens), posterior(UnrelatedLabels(law), tokens)
    assert torch.equal(apart.labels, torch.tensor([0.3, 0.7], dtype=torch.float64).expand(30, 2))
    assert torch.equal(apart.log_likelihood, plain.log_likelihood)
    assert all(torch.equal(*pair) for pair in zip(apart.latents, plain.latents, strict=True))


def test_tokens_of_a_large_model_determine_its_latents_without_underflow():
    law = RandomHierarchy(8, 8, 8, branching=2, depth=10)
    samples = law.sample(3, torch.Generator().manual_seed(0))
    found = posterior(law, samples.tokens)
    assert torch.equal(found.labels.argmax(-1), samples.labels)
    assert all(torch.equal(*pair) for pair in zip([p.argmax(-1) for p in found.latents], samples.symbols, strict=True))
    assert found.log_likelihood.tolist() == pytest.approx([-math.log(8) * 1024] * 3)  # the label, and 1,023 rules


@pytest.mark.parametrize(
    ("law", "tokens"),
    [
        (MODELS["model"], [0, 1, 0, 1]),
        (balanced_tree((2, 2), 1.0), [4, 0, 2, 3]),
        (SETS["table"], [8, 8, 8, 8, 8, 8, 8, 0]),
    ],
    ids=["model", "tree", "table"],
)
def test_impossible_tokens_are_refused(law, tokens):
    with pytest.raises(InvalidArgument, match="1 of 2 that are impossible under every label"):
        posterior(law, torch.stack([torch.tensor(tokens), law.sample(1, torch.Generator().manual_seed(0)).tokens[0]]))


@pytest.mark.parametrize(
    "tokens", [torch.zeros(2, 3), torch.zeros(4, dtype=torch.int64), torch.full((1, 4), 4), torch.zeros(0, 4).long()]
)
def test_anything_but_tokens_of_the_law_is_refused(tokens):
    with pytest.raises(InvalidArgument, match="`tokens`"):
        posterior(MODELS["model"], tokens)


def test_a_hierarchy_of_sets_with_too_many_states_is_refused_with_the_reason(monkeypatch):
    monkeypatch.setattr("joma.theory.enumeration.MOST_STATES", 1000)
    law = random_hierarchy(20, show_probability=0.8, num_alternatives=2, seed=1)
    with pytest.raises(InvalidArgument, match=r"share members.*take fewer latents and members, or a LatentTree"):
        posterior(law, law.sample(2, torch.Generator().manual_seed(0)).tokens)
    assert ceiling_of(law) is None


def test_sets_with_many_inputs_have_an_exact_posterior_whose_mean_is_the_ceiling():
    law = random_hierarchy(20, show_probability=0.8, num_alternatives=2)
    samples = law.sample(2000, torch.Generator().manual_seed(0))
    found = posterior(law, samples.tokens)
    chance = found.labels.gather(1, samples.labels[:, None])  # of the right label: its mean is Σ p² if p is calibrated
    assert float((chance[:, 0] - found.labels.square().sum(1)).mean()) == pytest.approx(0, abs=0.03)
    for level, present in zip(found.latents, samples.presence, strict=True):
        assert bool((level[..., 1][present] > 0).all())
        assert float((level[..., 1] - present.double()).mean()) == pytest.approx(0, abs=0.01)
    ceiling = ceiling_of(law, samples)
    assert ceiling.num_samples == 2000
    assert ceiling.accuracy == pytest.approx(float(found.labels.amax(1).mean()))


def test_ceilings_fall_as_more_levels_are_filtered():
    law = RandomHierarchy(3, 3, 3, branching=2, depth=3, seed=3)
    whole, *cut = [ceiling_of(law), *(ceiling_of(filtered(law, level)) for level in (1, 0, -1))]
    assert (whole.accuracy, whole.loss_nats) == (1, 0)
    accuracies = [1.0, *(one.accuracy for one in cut)]
    assert accuracies == sorted(accuracies, reverse=True)


@pytest.mark.parametrize("law", EVERY.values(), ids=EVERY)
def test_ceilings_of_small_laws_are_sums_over_all_states(law, tolerance):
    joint = defaultdict(lambda: np.zeros(law.num_labels))
    for (label, *_, tokens), p in states_of(law).items():
        joint[tokens][label] += p
    found = ceiling_of(law)
    assert found.exact
    assert (found.standard_error, found.loss_standard_error) == (0, 0)
    loss = -sum(p * math.log(p / sum(row)) for row in joint.values() for p in row if p > 0)
    assert found.accuracy == pytest.approx(sum(map(max, joint.values())), abs=tolerance("belief.evidence"))
    assert found.loss_nats == pytest.approx(loss, abs=tolerance("belief.evidence"))


def test_uncorrelated_rules_have_tuple_label_correlations_of_exactly_zero():
    for law in (MODELS["uncorrelated"], RandomHierarchy(3, 6, 3, branching=3, depth=3, uncorrelated=True)):
        for level in range(law.depth - 1):
            assert bool((tuple_label_correlations(law, level) == 0).all())
            assert correlation_threshold(law, level) == math.inf
        assert (
            float(tuple_label_correlations(law, law.depth - 1).abs().max()) > 0.01
        )  # the label's own tuples determine it
        with pytest.raises(InvalidArgument, match="correlation_threshold"):
            sample_complexity(law)


@pytest.mark.parametrize(("num", "depth"), [(4, 2), (8, 2), (4, 3), (8, 3)])
def test_the_threshold_of_random_rules_is_near_the_formula(num, depth):
    found = [correlation_threshold(RandomHierarchy(8, 8, num, depth=depth, seed=seed)) for seed in range(20)]
    law = RandomHierarchy(8, 8, num, depth=depth)
    assert sample_complexity(law) == 8 * num**depth
    assert 0.7 < np.median(found) / sample_complexity(law) < 1.5  # over a 16-fold range


def test_few_synonyms_show_correlations_before_the_formula_says():
    found = [correlation_threshold(RandomHierarchy(8, 16, 2, depth=2, seed=seed)) for seed in range(20)]
    assert np.median(found) < 0.5 * sample_complexity(RandomHierarchy(8, 16, 2, depth=2))
