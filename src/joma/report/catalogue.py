"""The list of all claims as a page of the documentation: ``python -m joma.report.catalogue > docs/claims.md``."""

from __future__ import annotations

from collections.abc import Iterable

from joma.claims.claim import Claim
from joma.claims.registry import OWN

HEAD = """# Claims

Made from the registry by `python -m joma.report.catalogue > docs/claims.md`. Which of them hold is not written
here: `joma reproduce` says so, on your machine and your text, with numbers. What the verdicts mean is in
[reproduce.md](reproduce.md).
"""


def claims_page(claims: Iterable[Claim]) -> str:
    """Return every claim with its formula, source, assumptions, test and control, as Markdown."""
    return "\n".join([HEAD, *(_section(claim) for claim in claims)])


def _section(claim: Claim) -> str:
    reference = claim.reference
    return f"""## {claim.id}

{reference.statement}

    {reference.formula}

- **Source**: {reference.source}
- **Assumes**: {"; ".join(reference.assumptions)}
- **Test**: {claim.test}
- **Control**: {claim.control}
- **Run it**: `joma reproduce {claim.id}`
"""


if __name__ == "__main__":
    print(claims_page(OWN), end="")
