"""Draw strokes: Bézier paths as points, and points as small grey pictures, with pens and distortions at random.

Axes: T points of all subjects, N subjects, S pixels a side.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

Points = Float[np.ndarray, "T 2"]

Curve = tuple[complex, complex, complex, complex]
"""The corners of a cubic Bézier curve, as x + iy."""

_TOKEN = re.compile(r"([MmCcSs])|([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)")
_OTHER = re.compile(r"[^\s,]")
_NUM_NUMBERS = {"m": 2, "c": 6, "s": 4}
_SPACING = 2.0
"""The largest distance of two points of a path, in its own units: half a pixel of a picture of 32."""

_PEN = (0.5, 1.0)
"""The radius of the pen in pixels, from thin to thick. Up to 1 a point leaves ink on its pixel's neighbours only."""

_ROTATION, _SHEAR, _SCALE, _SHIFT = 0.12, 0.12, 0.1, 1.5
"""The largest distortion: radians, a share of the width, the logarithm of the factor, pixels."""


def path_curves(path: str) -> list[Curve]:
    """Return the cubic Bézier curves of an SVG path of moves and such curves (M, m, C, c, S, s).

    Raises:
        ValueError: another command, or a wrong number of numbers.
    """
    at, control, curves = 0j, 0j, []
    for command, numbers in _commands(path):
        origin = at if command.islower() else 0j
        places = [origin + complex(x, y) for x, y in zip(numbers[::2], numbers[1::2], strict=True)]
        if command in "Mm":
            at = control = places[0]
            continue
        first, second, end = places if command in "Cc" else (2 * at - control, *places)
        curves.append((at, first, second, end))
        at, control = end, second
    return curves


def _commands(path: str) -> list[tuple[str, list[float]]]:
    """The commands of a path, one for each move and each curve."""
    commands: list[tuple[str, list[float]]] = []
    if _OTHER.search(_TOKEN.sub("", path)):
        raise ValueError(f"the path {path[:20]!r} has more than moves and cubic curves")
    for letter, number in _TOKEN.findall(path):
        if letter:
            commands.append((letter, []))
        elif not commands:
            raise ValueError(f"the path {path[:20]!r} begins with a number")
        else:
            letter, numbers = commands[-1]
            if len(numbers) == _NUM_NUMBERS[letter.lower()] and letter not in "Mm":  # further curves need no letter
                commands.append((letter, numbers := []))
            numbers.append(float(number))
    if not commands or any(len(numbers) != _NUM_NUMBERS[letter.lower()] for letter, numbers in commands):
        raise ValueError(f"the path {path[:20]!r} has another number of numbers than its commands need")
    return commands


def points_of(curves: Sequence[Curve]) -> tuple[Points, Int[np.ndarray, " curves"]]:
    """Return points along curves at most ``_SPACING`` apart, and how many belong to each curve."""
    corners = np.array(curves).reshape(-1, 4)
    nums = 2 + (np.abs(np.diff(corners, axis=1)).sum(1) / _SPACING).astype(int)
    first = np.repeat(np.cumsum(nums) - nums, nums)
    t = (np.arange(nums.sum()) - first) / np.repeat(nums - 1, nums)
    weights = np.stack([(1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3], axis=1)
    along = (weights * np.repeat(corners, nums, axis=0)).sum(1)
    return np.stack([along.real, along.imag], axis=1), nums


def drawn(
    subjects: Sequence[Sequence[Curve]], extent: float, size: int, num_views: int, seed: int
) -> UInt8[Tensor, "N num_views size size"]:
    """Return pictures of subjects, each with a pen and an affine distortion of its own.

    Args:
        subjects: the curves of each, from 0 to ``extent`` along both axes.
        extent: side of the square that subjects are drawn in.
        size: pixels a side, S.
        num_views: pictures of each subject.
        seed: of pens and distortions.
    """
    generator = torch.Generator().manual_seed(seed)
    places, nums = points_of([curve for curves in subjects for curve in curves])
    points = torch.from_numpy(places).float() / extent - 0.5
    owner = np.repeat(np.repeat(np.arange(len(subjects)), [len(curves) for curves in subjects]), nums)
    views = [_view(points, torch.from_numpy(owner), len(subjects), size, generator) for _ in range(num_views)]
    return torch.stack(views, dim=1)


def _view(
    points: Float[Tensor, "T 2"], owner: Int[Tensor, " T"], num: int, size: int, generator: torch.Generator
) -> UInt8[Tensor, "N size size"]:
    """One picture of each subject; a pixel is as dark as the nearest point of the pen's path makes it."""
    matrix, shift, pen = _distortions(num, size, generator)
    places = torch.einsum("tij,tj->it", matrix[owner], points) + shift[owner].T
    pixels, radius = places.floor().long(), pen[owner] + 0.5
    inside = places - pixels - 0.5
    wide = size + 6  # with a margin, to which points that lie farther outside are moved
    ink = torch.zeros(num, wide, wide)
    column, row = pixels.clamp(-2, size + 1) + 3
    place = (owner * wide + row) * wide + column
    for across in (-1, 0, 1):
        for down in (-1, 0, 1):
            dark = (radius - torch.hypot(inside[0] - across, inside[1] - down)).clamp_(0, 1)
            ink.view(-1).scatter_reduce_(0, place + down * wide + across, dark, "amax")
    return (ink[:, 3:-3, 3:-3] * 255).round().to(torch.uint8)


def _distortions(num: int, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Matrices (num, 2, 2) and shifts (num, 2) from the unit square about 0 to pixels, and radii of pens (num,)."""
    angle, shear, wide, high, right, down, pen = torch.rand(7, num, generator=generator)
    angle, shear, wide, high = (
        (2 * part - 1) * most
        for part, most in zip((angle, shear, wide, high), (_ROTATION, _SHEAR, _SCALE, _SCALE), strict=True)
    )
    cos, sin = angle.cos(), angle.sin()
    turn = torch.stack([cos, -sin, sin, cos], dim=-1).view(-1, 2, 2)
    zero = torch.zeros(num)
    stretch = torch.stack([wide.exp(), shear, zero, high.exp()], dim=-1).view(-1, 2, 2)
    shift = size / 2 + _SHIFT * (2 * torch.stack([right, down], dim=-1) - 1)
    return 0.9 * size * turn @ stretch, shift, _PEN[0] + (_PEN[1] - _PEN[0]) * pen
