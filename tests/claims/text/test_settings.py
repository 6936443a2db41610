import numpy as np
import pytest

from joma.claims.text.depth import _smallest
from joma.claims.text.learning_rate import _at_random, _correlations, _falls, _losses, _regret, _rises
from joma.claims.text.settings import entropy_of, first_half, read, rebounds
from joma.claims.text.sparse_then_dense import ENTROPY
from joma.measure.curves.course import Course
from joma.measure.curves.points import LOSS, Point, onset_of

STEPS = tuple(range(0, 1000, 50))
SEEDS = np.array([0.0, 0.01, -0.02])[:, None]


def setting(rise: float, last_loss: float, unigram: float = 5.0) -> Point:
    """Entropy falls by 1 up to step 500 and rises by ``rise``; the loss falls from 6."""
    entropy = np.interp(STEPS, [0, 500, 950], [3, 2, 2 + rise]) + SEEDS
    loss = np.interp(STEPS, [0, 950], [6, last_loss]) + SEEDS
    courses = {(ENTROPY, 0): Course(STEPS, entropy), (ENTROPY, 1): Course(STEPS, entropy - 1)}
    courses[LOSS, None] = Course(STEPS, loss)
    return Point({"name": f"{rise}"}, ("a", "b", "c"), courses, {}, onset_of(courses[LOSS, None], unigram), (0, 1, 2))


def test_entropy_is_the_mean_over_layers():
    assert entropy_of(setting(0.5, 4)).values[:, 0] == pytest.approx(2.5 + SEEDS[:, 0])


def test_curves_are_read_from_the_step_at_which_word_frequencies_are_learned():
    course = read(setting(0.5, 4), entropy_of(setting(0.5, 4)))
    assert course.steps[0] == 500  # 6 - 2 * 500 / 950 < 5
    never = setting(0.5, 4, unigram=3.0)
    assert read(never, entropy_of(never)).steps == STEPS
    late = setting(0.5, 4, unigram=4.2)  # too few probes are left
    assert read(late, entropy_of(late)).steps == STEPS


def test_half_of_the_steps_are_those_of_a_shorter_training():
    whole = setting(0.5, 4)
    short = first_half(whole, 5.0)
    assert short.courses[LOSS, None].steps[-1] == 450
    assert entropy_of(short).values.shape == (3, 10)


def test_the_loss_is_lowest_where_attention_returns_or_it_is_not():
    returning = [setting(rise, 5 - rise, unigram=0.0) for rise in (0.1, 0.2, 0.3, 0.4)]
    assert _correlations(_losses(returning), _rises(returning)) == pytest.approx([-1] * 3)
    assert _regret(returning).mean == 0
    opposite = [setting(rise, 4 + rise, unigram=0.0) for rise in (0.1, 0.2, 0.3, 0.4)]
    assert _correlations(_losses(opposite), _rises(opposite)) == pytest.approx([1] * 3)
    assert _regret(opposite).mean == pytest.approx(0.3)


def test_equal_returns_have_no_correlation_with_the_loss():
    losses, rises = np.array([[3.0, 2.0, 4.0]]), np.zeros((1, 3))
    assert _correlations(losses, rises) == [0.0]


def test_learning_rates_in_random_order_have_no_correlation():
    returning = [setting(rise, 5 - rise, unigram=0.0) for rise in np.linspace(0.1, 0.5, 7)]
    assert abs(_at_random(returning).mean) < 0.2
    assert _falls(returning).shape == (3, 7)


def test_the_depth_with_the_smallest_return_counts():
    depths = [setting(rise, 4, unigram=0.0) for rise in (0.5, 0.1, 0.3)]
    smallest = _smallest([rebounds(one) for one in depths])
    assert smallest == pytest.approx(
        [min(one.size for one in seed) for seed in zip(*[rebounds(d) for d in depths], strict=True)]
    )
    assert max(smallest) < 0.1
