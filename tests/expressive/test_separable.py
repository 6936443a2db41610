import numpy as np
from scipy.optimize import linprog

from joma.expressive.separable import (
    inseparable,
    one_layer_fewer,
    separating_unit,
    table_of,
)
from joma.problem.combinatorial import Combinatorial, random_hierarchy


def certificate_exists(inputs: np.ndarray, present: np.ndarray) -> bool:
    """Whether multipliers exist that prove by Farkas' lemma that there is no unit (non-negative where not present)."""
    rows = np.column_stack([inputs, np.ones(len(inputs))]).astype(float)
    found = linprog(
        np.zeros(len(rows)),
        A_eq=np.vstack([rows.T, present.astype(float)]),
        b_eq=np.append(np.zeros(rows.shape[1]), -1.0),
        bounds=[(None, None) if here else (0, None) for here in present],
    )
    return found.status == 0


def hierarchy(*levels: list[tuple[int, ...]], num_tokens: int) -> Combinatorial:
    return Combinatorial(tuple(tuple((members,) for members in level) for level in levels), num_tokens)


def test_separating_unit_is_found_or_a_certificate_proves_that_none_exists(tolerance):
    generator = np.random.default_rng(0)
    units = 0
    for _ in range(300):
        inputs = generator.random((7, 4)) < 0.6
        present = generator.random(7) < 0.4
        unit = separating_unit(inputs, present)
        assert certificate_exists(inputs, present) == (unit is None)
        if unit is not None:
            units += 1
            read = inputs @ unit[0] + unit[1]
            assert np.abs(np.maximum(read, 0) - present).max() <= tolerance("separable.unit")
    assert 30 < units < 270  # both happened often


def test_two_alternative_pairs_are_not_one_unit():
    """(a and b) or (c and d), on the four pairs ab, cd, ac, bd."""
    ab_cd_ac_bd = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0], [0, 1, 0, 1]])
    assert separating_unit(ab_cd_ac_bd, np.array([True, True, False, False])) is None
    assert separating_unit(ab_cd_ac_bd, np.array([True, False, False, False])) is not None


def test_latent_present_in_all_or_no_inputs_is_a_unit():
    inputs = np.eye(3)
    for present in (np.zeros(3, dtype=bool), np.ones(3, dtype=bool)):
        assert separating_unit(inputs, present) is not None


def test_affinely_independent_inputs_need_one_layer():
    """Any function of affinely independent inputs is affine."""
    independent = 0
    for seed in range(30):
        law = random_hierarchy(6, (8, 8), num_tokens=12, distinct_inputs=True, seed=seed)
        seen = table_of([[sets[0] for sets in level] for level in law.members], law.num_tokens)
        if np.linalg.matrix_rank(np.column_stack([seen.tokens, np.ones(6)])) == 6:
            independent += 1
            assert one_layer_fewer(law).possible
    assert independent > 5


def test_one_layer_suffices_without_accidents():
    """Every latent is then the conjunction of its tokens, at any level; here the tokens of latents are disjoint."""
    law = hierarchy(
        [(2 * idx, 2 * idx + 1) for idx in range(5)],
        [(0, 1), (1, 2), (2, 3), (3, 4)],
        [(0,), (1,), (2,), (3,), (0, 3)],
        num_tokens=10,
    )
    found = one_layer_fewer(law)
    assert (found.possible, found.num_layers, found.failing, found.fewest_layers) == (True, 1, (), 1)


# The case FRONT of test_weights (034 + 0123 − 013 = 0234), as tokens and as latents of one token each.
SETS = [(0, 1), (0, 2), (0, 3), (1, 2), (3, 4)]
CLASSES = [(0, 1), (0, 2), (1, 4), (2, 3), (2, 4)]


def test_level_0_may_be_inexpressible_in_the_first_layer():
    found = one_layer_fewer(hierarchy(SETS, CLASSES, num_tokens=5))
    assert (found.possible, found.num_layers, found.failing, found.fewest_layers) == (False, 1, ((0, 2),), 2)


def test_level_1_may_be_inexpressible_in_the_first_layer():
    pairs = [(2 * idx, 2 * idx + 1) for idx in range(5)]
    found = one_layer_fewer(hierarchy(pairs, SETS, CLASSES, num_tokens=10))
    assert (found.possible, found.num_layers, found.failing, found.fewest_layers) == (False, 1, ((1, 2),), 2)


def test_one_layer_fewer_is_impossible_with_a_single_layer():
    found = one_layer_fewer(hierarchy([(0, 1), (2, 3)], [(0,), (1,)], num_tokens=4))
    assert (found.possible, found.num_layers, found.failing, found.fewest_layers) == (False, 0, ((0, 0), (0, 1)), 1)


def test_inseparable_latents_are_invariant_under_renaming_of_tokens():
    generator = np.random.default_rng(1)
    for seed in range(20):
        law = random_hierarchy(6, (5,), num_tokens=5, seed=seed)
        sets, classes = ([latent[0] for latent in level] for level in law.members)
        names = generator.permutation(5)
        renamed = [tuple(int(names[token]) for token in latent) for latent in sets]
        assert inseparable(table_of([sets, classes], 5), 0) == inseparable(table_of([renamed, classes], 5), 0)
