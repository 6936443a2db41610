"""An observatory for Transformer training dynamics (JoMA: Tian et al., ICLR 2024, arXiv 2310.00535).

The rooms are imported by name (``from joma.theory.nonlinear import nonlinear_solution``); the root holds the version
and ``joma.watch``, which is imported when it is first asked for, so that ``joma --help`` starts at once.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from joma.measure.watch.watching import watch

__all__ = ["__version__", "watch"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "watch":
        from joma.measure.watch.watching import watch

        return watch
    raise AttributeError(f"module 'joma' has no attribute {name!r}")
