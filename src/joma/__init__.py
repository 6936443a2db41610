"""An observatory for Transformer training dynamics (JoMA: Tian et al., ICLR 2024, arXiv 2310.00535).

``dir(joma)`` lists the public names, ``__init__.pyi`` their modules. Each name is imported when it is first used, so
that ``import joma`` and ``joma --help`` are fast. All other names may change.
"""

import lazy_loader

__version__ = "0.2.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
