"""Tutorials run from top to bottom, as notebooks, and say what their text says."""

import ast

import pytest
import tutorials

SHOWN = {
    "first-run": ("Attention is still becoming sparser", "Attention of layer 0 collapsed"),
    "hierarchy-in-my-data": ("on fresh samples", "gain"),
    "published-series": ("nothing suspicious in 13 steps", "4 of 13 steps are suspect", "12 of 13 steps measured"),
    "theory-on-my-model": ("sparse, then dense", "linear MLP"),
    "write-a-claim": ("holds", "undecided"),
}
"""Parts of what each tutorial prints that its text relies on."""


def test_write_a_claim_comes_to_the_verdicts_of_its_text():
    jupytext = pytest.importorskip("jupytext")
    here: dict[str, object] = {}
    shown = []
    for cell in jupytext.read(tutorials.TUTORIALS["write-a-claim"]).cells:
        if cell.cell_type == "code":
            *statements, last = ast.parse(cell.source).body
            exec(compile(ast.Module(statements, []), "tutorial", "exec"), here)
            shown.append(eval(compile(ast.Expression(last.value), "tutorial", "eval"), here))
    assert "holds" in shown
    assert "undecided" in shown
    assert shown[-1] == "random.stable_rank"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", tutorials.TUTORIALS)
def test_a_tutorial_runs_as_a_notebook_and_draws(name, tmp_path):
    pytest.importorskip("nbconvert")
    tutorials.write([name], tmp_path)
    text = (tmp_path / f"{name}.md").read_text(encoding="utf-8")
    assert not [part for part in SHOWN[name] if part not in text]
    assert list((tmp_path / name).glob("*.png"))
    assert (tmp_path / f"{name}.ipynb").exists()
