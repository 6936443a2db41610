"""rhm.cnn_over_transformer: the verdict follows from the numbers of samples that halve the errors."""

import numpy as np
import pytest

from conclusions import faults
from joma.claims.rhm import architectures
from joma.claims.rhm.architectures import evaluate
from joma.claims.rhm.learning import Learned
from joma.claims.workspace import Workspace
from joma.records import Verdict


def curves(halved_at: dict[str, float]):
    """Replace training by curves that halve the error at a multiple of n_c m^L."""

    def learned(case, seeds, sizes, progress, kind):
        multiples = np.array(sizes.multiples)
        rows = [1 / (1 + (multiples / halved_at[kind]) ** (2 + 0.1 * seed)) for seed in seeds]
        rows = [row * (1 + 0.02 * seed) for seed, row in enumerate(rows)]
        return Learned(case, tuple((multiples * case.scale).tolist()), (), None, np.array(rows))

    return learned


@pytest.mark.parametrize(
    ("convolutional", "permuted", "decoder", "verdict"),
    [(0.5, 4.0, 3.0, Verdict.HOLDS), (2.0, 4.0, 2.5, Verdict.FAILS), (0.5, 0.5, 3.0, Verdict.UNDECIDED)],
)
def test_verdict_follows_from_the_curves(tmp_path, monkeypatch, convolutional, permuted, decoder, verdict):
    halved_at = {"convolutional": convolutional, "permuted": permuted, "decoder": decoder}
    monkeypatch.setattr(architectures, "learned", curves(halved_at))
    agreement = evaluate(Workspace(tmp_path, num_seeds=3))
    assert agreement.verdict is verdict
    assert not faults(agreement.conclusion)
    assert any("reduced run" in note for note in agreement.notes)


@pytest.mark.parametrize("kind", ["convolutional", "decoder"])
def test_network_that_never_learns_leaves_the_claim_undecided(tmp_path, monkeypatch, kind):
    halved_at = {"convolutional": 0.5, "permuted": 4.0, "decoder": 3.0} | {kind: 1e6}
    monkeypatch.setattr(architectures, "learned", curves(halved_at))
    agreement = evaluate(Workspace(tmp_path, num_seeds=3))
    assert agreement.verdict is Verdict.UNDECIDED
    assert "not halved with the largest number for 3 of 3 seeds" in agreement.why_undecided
