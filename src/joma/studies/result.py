"""The result of a study: a table of its numbers, verdicts, and pictures."""

from __future__ import annotations

import textwrap
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, overload

from joma.domains import choose
from joma.errors import BadInput
from joma.measure.curves.quantities import Probes, verdicts
from joma.terminal import printable

if TYPE_CHECKING:
    import pandas
    import plotly.graph_objects
    from matplotlib.axes import Axes

    from joma.report.drawing.single import Picture

_LINE = 118


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a study; ``result`` contains the finished part."""

    def __init__(self, result: Any) -> None:
        super().__init__()
        self.result = result


def verdict_frame(probes: Probes) -> pandas.DataFrame:
    """Return one row per layer, metric and projection: the step of its minimum, and whether it recovered."""
    import pandas

    rows = [of._asdict() | _flat(asdict(found)) for of, found in verdicts(probes).items()]
    found = pandas.DataFrame(rows, columns=None if rows else pandas.Index(["metric", "layer", "projection", "outcome"]))
    return found.astype({"layer": "Int32", "projection": "string"})


def _flat(parts: dict[str, Any]) -> dict[str, Any]:
    """Give the parts of a tuple columns of their own: ``fall``, ``fall_low``, ``fall_high``; ``end_steps_first``."""
    found: dict[str, Any] = {}
    for name, part in parts.items():
        if isinstance(part, tuple):
            ends = ("", "_low", "_high") if len(part) == 3 else ("_first", "_last")
            found |= {name + end: value for end, value in zip(ends, part, strict=True)}
        else:
            found[name] = part
    return found


class Result(ABC):
    """A result: ``frame()`` returns the numbers, ``verdicts()`` the conclusions, and ``plot()`` draws them."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.__repr__ = Result.__repr__  # in place of a dataclass's, which shows every number

    @abstractmethod
    def frame(self) -> pandas.DataFrame:
        """Return the numbers, one row each."""

    @abstractmethod
    def verdicts(self) -> pandas.DataFrame:
        """Return the conclusions from the numbers, one row each; empty if there are none."""

    @abstractmethod
    def pictures(self) -> Sequence[Picture]:
        """Return all pictures, the most important one first; none if there are too few numbers."""

    @abstractmethod
    def summary(self) -> str:
        """Return the result in a sentence."""

    @overload
    def plot(
        self, which: str | None = None, *, ax: Axes | None = None, interactive: Literal[False] = False
    ) -> Axes: ...

    @overload
    def plot(self, which: str | None = None, *, interactive: Literal[True]) -> plotly.graph_objects.Figure: ...

    def plot(self, which: str | None = None, *, ax: Axes | None = None, interactive: bool = False) -> Any:
        """Draw one of the pictures.

        Args:
            which: its id, one of ``[picture.id for picture in result.pictures()]``; ``None`` for the first.
            ax: matplotlib axes to draw on; ``None`` for a new figure.
            interactive: return a plotly figure instead.

        Returns:
            The matplotlib axes, or the plotly figure.

        Raises:
            BadInput: there is no picture with this id, or none at all.
        """
        from joma.report.drawing import single

        pictures = {picture.id: picture for picture in self.pictures()}
        if not pictures:
            raise BadInput("there is nothing to draw", expected="a result with pictures", remedy="see its frame()")
        picture = choose(
            next(iter(pictures)) if which is None else which, pictures, f"{type(self).__name__}.plot", "which"
        )
        return single.interactive(picture) if interactive else single.axes_of(picture, ax)

    def __repr__(self) -> str:
        text = printable(f"{type(self).__name__}: {self.summary()}")
        return "\n".join(textwrap.wrap(text, _LINE, max_lines=2, placeholder=" …"))

    def _repr_html_(self) -> str:
        from joma.report.pages.result import result_html

        return result_html(type(self).__name__, self.summary(), self.verdicts(), self.pictures())
