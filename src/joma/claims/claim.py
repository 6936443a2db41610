"""Claims as text: a statement, its source, and the name of the function that tests it.

Nothing numerical is imported here, so that claims can be listed quickly.
"""

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
    >>> joma.Reference("ones.sum", "A sum of ones is their number.", "arithmetic", (), "Σ 1 = n").id
    'ones.sum'

    Args:
        id: ``family.name``, unique among all claims; it names the evidence file.
        statement: the claim, in one or two sentences.
        source: the theorem, figure or section of a paper, or ``derived`` with the section of docs/theory.
        assumptions: the assumptions of the statement.
        formula: the equation in plain text.
    """

    id: str
    statement: str
    source: str
    assumptions: tuple[str, ...]
    formula: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9_]+(\.[a-z0-9_]+)*", self.id):
            required = "words of a-z, 0-9 and _, joined by dots, because it names files"
            remedy = "take family.name, such as theorem1.exp"
            raise InvalidArgument("Reference", "id", required=required, received=repr(self.id), remedy=remedy)


@dataclass(frozen=True)
class Claim:
    """A statement and its test.

    >>> import joma
    >>> reference = joma.Reference("ones.sum", "A sum of ones is their number.", "arithmetic", (), "Σ 1 = n")
    >>> claim = joma.Claim(reference, "Sum them.", "A sum of twos.", "my_package.ones:evaluate")
    >>> claim.id, claim.needs_text
    ('ones.sum', False)

    Args:
        reference: the statement, its source and its assumptions.
        test: how the statement is tested, in one or two sentences.
        control: the case in which the same test must fail, in one sentence.
        evaluate: the function that tests it, ``package.module:function``; imported only when the claim is evaluated.
            It takes a ``Workspace``, which trains networks if it needs any, and returns an ``Agreement``. It may be
            stopped where it asks for networks, and called again when they are trained.
        needs_text: whether the test trains networks on text.
        by_default: whether it is evaluated where no claim is named. The claims of joma for which it is true take five
            minutes together on two cores.
        short: the statement as a singular noun phrase, for summaries (``the invariant of linear attention``); the id
            if it is empty.
        extra: the extra of joma that installs the data for the test where the user names none; empty if it needs none.
        origin: the distribution that the claim comes from, with its version. The registry sets it.
    """

    reference: Reference
    test: str
    control: str
    evaluate: str
    needs_text: bool = False
    by_default: bool = True
    origin: str = "joma"
    short: str = ""
    extra: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\w+(\.\w+)*:\w+", self.evaluate):
            required, remedy = "'package.module:function'", "name the function that tests the claim, as a string"
            raise InvalidArgument("Claim", "evaluate", required=required, received=repr(self.evaluate), remedy=remedy)

    @property
    def conditions(self) -> tuple[str, ...]:
        """When it is evaluated, and what has to be installed for it; empty if it always can be and is."""
        named = () if self.by_default else ("evaluated if it is named, or with --all",)
        return named + ((f"data from the extra joma[{self.extra}], or your own with --data",) if self.extra else ())

    @property
    def id(self) -> str:
        """The id of the claim."""
        return self.reference.id

    @property
    def package(self) -> str:
        """The top-level package that contains the test."""
        return re.split("[.:]", self.evaluate)[0]

    def load(self) -> Callable[[Workspace], Agreement]:
        """Import the test.

        Raises:
            ImportError: for any error during the import, with the error as its cause.
        """
        try:
            return resolve_name(self.evaluate)
        except Exception as error:
            raise ImportError(f"{self.evaluate} cannot be imported ({cause_of(error)})") from error
