"""What a claim is: a statement with its source, and where its test is found. Words only: listing loads no numerics."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from joma.errors import InvalidArgument, cause_of

if TYPE_CHECKING:
    from joma.claims.workspace import Workspace
    from joma.records import Agreement

PAPER = "Tian et al., ICLR 2024, arXiv 2310.00535"


@dataclass(frozen=True)
class Reference:
    """A statement with its source.

    >>> import joma
    >>> joma.Reference("ones.sum", "A sum of ones is how many there are.", "arithmetic", (), "Σ 1 = n").id
    'ones.sum'

    Args:
        id: its id, ``family.name``; function docstrings, claims, tests and report lines carry it.
        statement: what is claimed, in one or two sentences.
        source: paper item, or ``derived`` with the section of docs/theory that derives it.
        assumptions: what must be true for it to follow; a verdict says which of them fails.
        formula: the equation in plain text, as the report prints it.
    """

    id: str
    statement: str
    source: str
    assumptions: tuple[str, ...]
    formula: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9_]+(\.[a-z0-9_]+)*", self.id):
            raise InvalidArgument(
                "Reference",
                "id",
                required="words of a-z, 0-9 and _, joined by dots: it names files",
                received=repr(self.id),
                remedy="take family.name, such as theorem1.exp",
            )


@dataclass(frozen=True)
class Claim:
    """A statement and its test.

    >>> import joma
    >>> reference = joma.Reference("ones.sum", "A sum of ones is how many there are.", "arithmetic", (), "Σ 1 = n")
    >>> claim = joma.Claim(reference, "Sum them.", "A sum of twos.", "my_package.ones:evaluate")
    >>> claim.id, claim.needs_text
    ('ones.sum', False)

    Args:
        reference: the statement, its source, its assumptions.
        test: how it is tested, in a sentence or two.
        control: where the same test must fail, in a sentence.
        evaluate: where the test is found, ``package.module:function``; imported only when the claim is evaluated. The
            function maps a ``Workspace``, through which it may train networks, to an ``Agreement``, and keeps no state.
        needs_text: whether networks are trained on the text.
        origin: the distribution that the claim comes from, with its version. The registry fills it in.
    """

    reference: Reference
    test: str
    control: str
    evaluate: str
    needs_text: bool = False
    origin: str = "joma"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\w+(\.\w+)*:\w+", self.evaluate):
            raise InvalidArgument(
                "Claim",
                "evaluate",
                required="'package.module:function'",
                received=repr(self.evaluate),
                remedy="name the function that tests the claim, as text",
            )

    @property
    def id(self) -> str:
        """The claim's id."""
        return self.reference.id

    @property
    def package(self) -> str:
        """The package that its test lies in."""
        return re.split("[.:]", self.evaluate)[0]

    def load(self) -> Callable[[Workspace], Agreement]:
        """Import the test.

        Raises:
            ImportError: it cannot be imported, for whatever reason.
        """
        try:
            return resolve_name(self.evaluate)
        except Exception as error:
            raise ImportError(f"{self.evaluate} cannot be imported ({cause_of(error)})") from error
