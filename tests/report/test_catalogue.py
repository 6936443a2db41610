"""docs/claims.md is made from the registry and says what the registry says."""

from pathlib import Path

from joma.claims.registry import OWN
from joma.report.catalogue import claims_page

PAGE = Path(__file__).parents[2] / "docs" / "claims.md"


def test_the_documentation_lists_every_claim_as_it_is():
    command = "python -m joma.report.catalogue > docs/claims.md"
    assert PAGE.read_text(encoding="utf-8") == claims_page(OWN), f"run: {command}"
