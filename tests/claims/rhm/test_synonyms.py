"""rhm.synonyms: exchanges keep or change the latents, and the result is complete."""

from dataclasses import replace

import torch

from conclusions import faults
from joma.claims.rhm import synonyms
from joma.claims.rhm.learning import Case
from joma.claims.rhm.synonyms import PLANS, evaluate
from joma.claims.workspace import Profile, Workspace
from joma.problem.random_hierarchy import RandomHierarchy
from joma.train.tree_networks import Schedule


def parents(law: RandomHierarchy, tokens: torch.Tensor) -> torch.Tensor:
    tuples = tokens.unflatten(-1, (-1, law.branching))
    return (law.rules[0][None, None] == tuples[:, :, None, None]).all(-1).any(-1).int().argmax(-1)


def test_synonyms_keep_every_latent_and_other_symbols_change_every_one():
    law = Case(4, 3).law(0)
    original, exchanged, others = synonyms._exchanged(law, 200, 0)
    assert torch.equal(parents(law, original), parents(law, exchanged))
    assert (parents(law, original) != parents(law, others)).all()
    for tokens in (exchanged, others):
        assert (tokens != original).unflatten(-1, (-1, 2)).any(-1).all()  # every tuple is another one


def test_small_laws_give_a_complete_result(tmp_path, monkeypatch):
    plan = PLANS[Profile.QUICK]
    sizes = replace(plan.sizes, multiples=(0.5, 1.0), num_held_out=8, width=8, schedule=Schedule(10))
    monkeypatch.setitem(
        synonyms.PLANS, Profile.QUICK, replace(plan, cases=(Case(2, 2, 2), Case(2, 3, 4)), sizes=sizes, num_samples=50)
    )
    agreement = evaluate(Workspace(tmp_path, num_seeds=3))
    assert not faults(agreement.conclusion)
    assert [chart.id for chart in agreement.charts] == ["m2_l2", "m2_l3"]
    found = {finding.name for finding in agreement.findings}
    assert "m = 2, L = 3: sensitivity of layer 2 to synonyms" in found
