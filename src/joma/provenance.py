"""The software that results depend on: versions, and a digest of the code."""

from __future__ import annotations

import functools
import hashlib
import platform
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path


def versions() -> dict[str, str]:
    """Return the versions of this package, of Python, and of the libraries that compute."""
    import torch  # its own version includes the build (2.13.0+cu130), which the package metadata may omit

    found = {name: version(name) for name in ("joma", "torch", "numpy", "scipy", "transformers")}
    return {"python": platform.python_version()} | found | {"torch": str(torch.__version__)}


@functools.cache
def code_digest(package: str = "joma") -> str:
    """Return a digest of the source of joma and of another top-level ``package``, if that is installed."""
    digest = hashlib.blake2b(digest_size=12)
    for name in dict.fromkeys(("joma", package)):
        spec = find_spec(name)
        places = (spec.submodule_search_locations or [str(spec.origin)]) if spec else []
        for root in map(Path, places):
            for path in [root] if root.is_file() else sorted(root.rglob("*.py")):
                digest.update(path.relative_to(root.parent).as_posix().encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()
