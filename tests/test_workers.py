"""Parallel work: a process that is killed loses its own item, and a cluster that is not there is refused."""

import pytest

from joma.errors import BadInput
from joma.workers import Lost, completed
from working import square_unless_negative


@pytest.mark.slow  # processes that import joma take seconds to start
def test_a_killed_process_loses_its_own_item_and_no_other():
    found = dict(completed(square_unless_negative, [1, -1, 2, -2, 3, 4, 5], "squares", num_workers=2))
    assert {place for place, outcome in found.items() if isinstance(outcome, Lost)} == {1, 3}
    assert {place: outcome for place, outcome in found.items() if not isinstance(outcome, Lost)} == {
        0: 1,
        2: 4,
        4: 9,
        5: 16,
        6: 25,
    }


def test_progress_of_items_in_this_process_adds_up():
    calls = []
    found = list(
        completed(square_unless_negative, [1, 2], "squares", num_workers=1, progress=lambda *c: calls.append(c))
    )
    assert found == [(0, 1), (1, 4)]
    assert calls[-1] == ("squares", 2, 2)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "[::1]:1"])
def test_a_ray_cluster_that_is_not_there_is_refused(monkeypatch, address):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(BadInput, match=r"no Ray cluster at RAY_ADDRESS=.*`ray start --head`"):
        list(completed(square_unless_negative, [1], "squares", engine="ray"))
