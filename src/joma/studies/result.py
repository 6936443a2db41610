"""What every study gives: its numbers as a table, what they say, and pictures."""

from __future__ import annotations

import textwrap
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, overload

from joma.domains import choose
from joma.errors import BadInput
from joma.measure.curves.quantities import Probes, verdicts

if TYPE_CHECKING:
    import pandas
    import plotly.graph_objects
    from matplotlib.axes import Axes

    from joma.charts import Chart, Heatmap

_LINE = 118


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a study; ``result`` holds what was finished."""

    def __init__(self, result: Any) -> None:
        super().__init__()
        self.result = result


def verdict_frame(probes: Probes) -> pandas.DataFrame:
    """One row for each layer, metric and projection: where it is lowest, and whether it came back."""
    import pandas

    rows = [of._asdict() | asdict(found) for of, found in verdicts(probes).items()]
    return pandas.DataFrame(rows, columns=None if rows else pandas.Index(["metric", "layer", "projection", "outcome"]))


class Result(ABC):
    """A result: ``frame()`` has the numbers, ``verdicts()`` what they say, ``plot()`` draws them."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.__repr__ = Result.__repr__  # in place of a dataclass's, which shows every number

    @abstractmethod
    def frame(self) -> pandas.DataFrame:
        """The numbers, one row each."""

    @abstractmethod
    def verdicts(self) -> pandas.DataFrame:
        """What the numbers say, one row for each thing that is asked of them; empty where nothing can be said."""

    @abstractmethod
    def pictures(self) -> Sequence[Chart | Heatmap]:
        """Everything there is to see, the most telling first; none where there are too few numbers."""

    @abstractmethod
    def summary(self) -> str:
        """What was found, in a sentence."""

    @overload
    def plot(
        self, which: str | None = None, *, ax: Axes | None = None, interactive: Literal[False] = False
    ) -> Axes: ...

    @overload
    def plot(self, which: str | None = None, *, interactive: Literal[True]) -> plotly.graph_objects.Figure: ...

    def plot(self, which: str | None = None, *, ax: Axes | None = None, interactive: bool = False) -> Any:
        """Draw one of the pictures.

        Args:
            which: its id, one of ``[picture.id for picture in result.pictures()]``; the first where ``None``.
            ax: matplotlib axes to draw on; a new figure where ``None``.
            interactive: make a plotly figure instead.

        Returns:
            The matplotlib axes, or the plotly figure.

        Raises:
            BadInput: there is no such picture, or none at all.
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
        name = type(self).__name__
        lines = textwrap.wrap(f"{name}: {self.summary()}", _LINE, max_lines=2, placeholder=" …")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from joma.report.pages.result import result_html

        return result_html(type(self).__name__, self.summary(), self.verdicts(), next(iter(self.pictures()), None))
