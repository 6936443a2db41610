"""An observatory for Transformer training dynamics (JoMA: Tian et al., ICLR 2024, arXiv 2310.00535).

The rooms are imported by name (``from joma.theory.nonlinear import nonlinear_solution``); the root holds the
version alone, so that ``joma --help`` starts at once.
"""

__version__ = "0.1.0"
