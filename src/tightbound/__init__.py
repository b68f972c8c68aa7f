"""Trains latent-variable models and tells you why the bound isn't going up.

The public names stand in `__init__.pyi`, here and in the namespaces; each is imported when it is
first used, so that importing the package costs nothing. `docs/library.md` has a line on every one.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
