"""What a number may depend on beside its settings: versions, and the code itself."""

from __future__ import annotations

import functools
import hashlib
import platform
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path


def versions() -> dict[str, str]:
    """Return the versions of this package, of Python, and of the libraries that compute."""
    import torch  # says which build it is (2.13.0+cu130); its package's metadata may leave that out

    found = {name: version(name) for name in ("joma", "torch", "numpy", "scipy", "transformers")}
    return {"python": platform.python_version()} | found | {"torch": str(torch.__version__)}


@functools.cache
def code_digest() -> str:
    """Return a digest of the installed package's source: evidence is only as good as the code that made it."""
    root = Path(str(files("joma")))
    digest = hashlib.blake2b(digest_size=12)
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
