"""docs/paper.md names only what exists, and every claim where its source cites the paper."""

import re
from importlib import import_module
from pathlib import Path

import pytest

import joma
from joma.claims.registry import OWN

PAGE = (Path(__file__).parents[1] / "docs" / "paper.md").read_text(encoding="utf-8")
ROWS = [line.strip("|").split("|") for line in PAGE.splitlines() if line.startswith("| ")]
IDS = {claim.id for claim in OWN}
CITED = re.compile(r"(Theorem|Figure|Table|Section)s? (\d(?:\.\d)?)(?: and (\d(?:\.\d)?))?")


def cited(source: str) -> set[str]:
    """Return the parts of the paper that a claim's source names."""
    return {f"{kind} {number}" for kind, *numbers in CITED.findall(source) for number in numbers if number}


def test_two_figures_in_one_source_are_both_cited():
    assert cited("Figures 6 and 7, Tian et al.; Section 4.2 and Table 1") == {
        "Figure 6",
        "Figure 7",
        "Section 4.2",
        "Table 1",
    }


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(joma(?:\.\w+)+)`", PAGE))))
def test_every_function_of_the_page_exists(name):
    module, _, thing = name.rpartition(".")
    assert thing in dir(joma) if module == "joma" else hasattr(import_module(module), thing)


def test_the_page_names_all_claims_and_no_others():
    named = {id for row in ROWS for cell in row[2:3] for id in re.findall(r"`([\w.]+)`", cell)}
    assert named == IDS


@pytest.mark.parametrize("claim", OWN, ids=lambda claim: claim.id)
def test_every_claim_stands_where_its_source_cites_the_paper(claim):
    found = {row[0].split(":")[0].strip() for row in ROWS if f"`{claim.id}`" in row[2]}
    assert cited(claim.reference.source) <= found


@pytest.mark.parametrize("claim", sorted(set(re.findall(r"joma reproduce ([\w.]+)", PAGE)) - {"CLAIM"}))
def test_every_claim_of_a_command_exists(claim):
    assert any(id == claim or id.startswith(f"{claim}.") for id in IDS)
