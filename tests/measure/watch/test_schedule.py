from itertools import pairwise

import pytest

from joma.measure.watch.schedule import is_due


def due(every, last, stride=1):
    steps = range(0, last + 1, stride)
    return [step for before, step in pairwise(steps) if is_due(every, before, step)]


def test_log_spaced_steps_are_all_powers_of_two_and_a_few_between():
    assert due("log", 100) == [*range(1, 9), 10, 11, 13, 16, 19, 23, 27, 32, 38, 45, 54, 64, 76, 91]


def test_log_spaced_steps_do_not_depend_on_where_training_continues():
    assert [step for step in due("log", 1000) if step > 500] == [512, 609, 724, 861]
    assert is_due("log", 511, 512)
    assert not is_due("log", 512, 608)


@pytest.mark.parametrize(("every", "steps"), [(1, [1, 2, 3, 4, 5, 6, 7]), (3, [3, 6])])
def test_regular_steps_are_multiples(every, steps):
    assert due(every, 7) == steps


def test_steps_that_are_passed_over_are_due_at_the_next_one():
    assert due("log", 40, stride=5) == [5, 10, 15, 20, 25, 30, 35, 40]
    assert due(4, 15, stride=5) == [5, 10, 15]
