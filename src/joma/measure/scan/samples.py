"""Read as much of the weights of a series as verification may, and keep what it compares."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from joma.saved.series import Series

WHOLE = 1 << 31
"""Largest series in bytes, in a local folder, that is read whole: some seconds of reading."""

SHARE, SHARE_WITH_HASHES = 1 / 10, 1 / 100
"""Largest share of a series that is read otherwise; hashes from a hub show equal files without reading them."""

FEWEST_ENTRIES, MOST_ENTRIES = 8, 2048
"""Entries at each end of a tensor; the fewest are read even where they exceed the share."""

NUM_KEPT = 1024
"""Entries of each tensor, evenly spread over what was read, that distances between steps are computed from."""

_REST = 1 / 4
"""Share of what may be read that is left for rows of matrices of step 0."""

FEWEST_TYPICAL = 64
"""Entries that a typical movement is known from."""

_TYPICAL = 0.99
"""Share of the entries that a typical movement is taken from: the largest ones are what is looked for."""


@dataclass(frozen=True)
class Extent:
    """How much of each step is read.

    Args:
        num_entries: at each end of every tensor; ``None`` if everything is read.
        names: of the tensors.
        rest: bytes that may be read in addition; ``None`` for any number.
    """

    num_entries: int | None
    names: tuple[str, ...]
    rest: int | None = None

    @classmethod
    def of(cls, series: Series, shapes: Mapping[str, tuple[int, ...]], *, is_hashed: bool) -> Extent:
        """Choose how much to read.

        Args:
            series: of which all tables of contents were read.
            shapes: the tensors that are compared.
            is_hashed: whether the hashes of all files are known.
        """
        names = tuple(shapes)
        if series.is_local and series.bytes_stored <= WHOLE:
            return cls(None, names)
        allowed = series.bytes_stored * (SHARE_WITH_HASHES if is_hashed else SHARE) - series.bytes_read
        per_tensor = (1 - _REST) * allowed / max(1, len(series.steps) * len(names))
        num_entries = int(per_tensor / (2 * 4))  # two ends of at most four bytes an entry
        return cls(max(FEWEST_ENTRIES, min(MOST_ENTRIES, num_entries)), names, max(0, int(_REST * allowed)))

    def read(self, series: Series, step: int, names: Sequence[str]) -> dict[str, Tensor]:
        """Read these tensors of a step, or their ends, as flat tensors."""
        if self.num_entries is None:
            return {name: tensor.flatten() for name, tensor in series.read(step, names).items()}
        return series.read_ends(step, names, self.num_entries)


@dataclass(frozen=True)
class Detour:
    """The entry of a tensor that differs most from its values before and after, on the same side of both.

    Args:
        size: its smaller distance to the two, relative to the typical movement of the tensor.
        entry: its index among the entries that were read.
        before, here, after: its values.
    """

    size: float
    entry: int
    before: float
    here: float
    after: float


@dataclass
class Courses:
    """What is kept of the weights of the steps, in their order.

    Args:
        matrices: names of tensors with two axes or more.
        steps: added so far.
        digests: by step, a hash of what was read of each tensor.
        kept: by step, a few entries of each tensor.
        changed: by tensor, how many of its entries differ between each two consecutive steps.
        detours: by tensor and step.
        leaps: by tensor and step, the entry that changes most in the interval before it, if most entries change.
    """

    matrices: frozenset[str]
    steps: list[int] = field(default_factory=list)
    digests: dict[int, dict[str, bytes]] = field(default_factory=dict)
    kept: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    changed: dict[str, list[int]] = field(default_factory=dict)
    detours: dict[str, dict[int, Detour]] = field(default_factory=dict)
    leaps: dict[str, dict[int, Detour]] = field(default_factory=dict)
    _last: list[dict[str, Tensor]] = field(default_factory=list)

    def add(self, step: int, content: dict[str, Tensor]) -> None:
        """Add the next step, with all its tensors as flat tensors."""
        self.steps.append(step)
        self.digests[step] = {name: _digest(tensor) for name, tensor in content.items()}
        self.kept[step] = {name: _spread(tensor) for name, tensor in content.items() if tensor.is_floating_point()}
        for name in content if self._last else ():
            same = self.digests[step][name] == self.digests[self.steps[-2]][name]
            num_changed = 0 if same else _num_different(self._last[-1][name], content[name])
            self.changed.setdefault(name, []).append(num_changed)
            if name in self.kept[step] and 2 * num_changed > content[name].numel():
                before = self._last[-1][name]
                if (leap := _detour(before, content[name], before)) is not None:
                    self.leaps.setdefault(name, {})[step] = leap
        for name in self.kept[step] if len(self._last) == 2 else ():
            if (detour := _detour(self._last[0][name], self._last[1][name], content[name])) is not None:
                self.detours.setdefault(name, {})[self.steps[-2]] = detour
        self._last = [*self._last[-1:], content]


def _digest(tensor: Tensor) -> bytes:
    raw = tensor.contiguous().view(torch.uint8).numpy() if tensor.numel() else b""
    return str(tensor.dtype).encode() + hashlib.blake2b(raw, digest_size=16).digest()


def _num_different(one: Tensor, other: Tensor) -> int:
    if one.dtype.itemsize == 1:  # torch compares no float8
        one, other = one.float(), other.float()
    return int((one != other).sum())


def _spread(tensor: Tensor) -> Tensor:
    stride = -(-tensor.numel() // NUM_KEPT) or 1
    return tensor[::stride].clone()


def _detour(before: Tensor, here: Tensor, after: Tensor) -> Detour | None:
    """Return the largest detour of an entry; ``None`` if there is none, or too few entries to compare it with."""
    if len(here) < FEWEST_TYPICAL:
        return None
    a, b = here.float() - before.float(), here.float() - after.float()
    typical = (_typical(a) + _typical(b)) / 2
    back = torch.where(a.sign() == b.sign(), torch.minimum(a.abs(), b.abs()), 0)
    if not back.numel() or not float(back.max()) > 0:
        return None
    entry = int(back.argmax())
    values = [float(tensor[entry]) for tensor in (before, here, after)]
    rounding = torch.finfo(here.dtype).eps * max(abs(values[0]), abs(values[2]))
    return Detour(float(back[entry]) / max(typical, rounding, 1e-30), entry, *values)


def _typical(movement: Tensor) -> float:
    """Return the root mean square of a movement, without the largest entries."""
    sizes = _spread(movement).abs()
    return float(sizes[sizes <= sizes.kthvalue(max(1, int(_TYPICAL * len(sizes)))).values].square().mean().sqrt())
