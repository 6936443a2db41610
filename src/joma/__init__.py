"""An observatory for Transformer training dynamics (JoMA: Tian et al., ICLR 2024, arXiv 2310.00535).

``dir(joma)`` shows the public names, which ``__init__.pyi`` lists with their places; each is imported when it is first
used, so that ``import joma`` and ``joma --help`` start at once. Whatever is not among them may move.
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
