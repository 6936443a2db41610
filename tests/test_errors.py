"""Errors are one line with problem, expectation and remedy, also after return from a worker process."""

import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import pytest

from joma.errors import BadInput, InvalidArgument, RunFailed, Unreachable, cause_of

BAD_INPUT = BadInput("no file 'x.txt'", expected="a text", remedy="name one that exists")
INVALID = InvalidArgument(
    "entropy", "weights", required="numbers of at least 0", received="-1", remedy="take their absolute values"
)
FAILED = RunFailed("the loss is NaN at step 7", kept="step 5 is kept in run/", remedy="lower the learning rate")
ABSENT = Unreachable("the hub did not answer 6 times", kept="nothing was read", remedy="check the network")
ERRORS = [BAD_INPUT, INVALID, FAILED, ABSENT]


@pytest.fixture(scope="module")
def pool():
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        yield executor


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_from_a_worker_process_is_unchanged(pool, error):
    # exec, because a spawned worker may not find this file by its name
    came_back = pool.submit(exec, "raise error", {"error": error}).exception(timeout=60)
    assert type(came_back) is type(error)
    assert str(came_back) == str(error)
    assert vars(came_back).items() >= vars(error).items()


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_can_be_pickled_twice(error):
    once = pickle.loads(pickle.dumps(error))
    twice = pickle.loads(pickle.dumps(once))
    assert (type(twice), str(twice), vars(twice)) == (type(error), str(error), vars(error))


def test_notes_added_to_an_error_are_kept():
    error = RunFailed("stopped", kept="nothing was kept", remedy="start again")
    error.add_note("in network 3")
    assert pickle.loads(pickle.dumps(error)).__notes__ == ["in network 3"]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_is_one_line_with_problem_expectation_and_remedy(error):
    between = error.kept if isinstance(error, RunFailed) else error.expected
    assert str(error).index(error.problem) < str(error).index(between) < str(error).index(error.remedy)
    assert len(str(error).splitlines()) == 1


def test_an_invalid_argument_names_function_parameter_and_value():
    assert str(INVALID).startswith("entropy: `weights` is -1; expected numbers of at least 0; ")


def test_bad_input_is_a_value_error_and_a_failed_run_is_not():
    assert isinstance(INVALID, BadInput)
    assert isinstance(BAD_INPUT, ValueError)
    assert not isinstance(FAILED, ValueError)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (OSError(28, "No space left on device"), "OSError: [Errno 28] No space left on device"),
        (ValueError("first line.\nsecond line"), "ValueError: first line"),
        (KeyError("step"), "KeyError: 'step'"),
    ],
)
def test_a_foreign_exception_is_quoted_by_its_first_line(error, cause):
    assert cause_of(error) == cause


def test_names_in_messages_cannot_command_the_terminal():
    name = "a\x1b[31m\u202e\x9b"
    for error in (
        BadInput(name, expected=name, remedy=name),
        InvalidArgument("watch", "model", required=name, received=name, remedy=name),
        RunFailed(name, kept=name, remedy=name),
    ):
        assert str(error).isprintable()
        assert str(error).count(r"a\u001b[31m\u202e\u009b") == 3
