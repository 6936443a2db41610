"""A vision Transformer (ViT) that predicts the label of a picture: the decoder's blocks, without the causal mask.

A picture is cut into square patches, which take the place of tokens. Each place in a patch has a vector, as each word
has in a decoder; a patch is the sum of the vectors of its places, weighted by their ink, plus the sinusoidal vectors of
its row and its column. Attention sees all patches, and the label is predicted from the mean over patches.

Axes: B pictures, L patches, S pixels a side, D width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from joma.errors import InvalidArgument
from joma.train.decoder import Decoder, DecoderConfig, sinusoids
from joma.train.products import linear


@dataclass(frozen=True)
class VisionConfig(DecoderConfig):
    """The architecture of a vision Transformer; the settings of ``DecoderConfig`` that are not named mean the same.

    Args:
        vocabulary_size: pixels of a patch.
        width: a multiple of 4, for the vectors of rows and columns.
        num_outputs: number of labels.
        image_size: pixels a side of a picture, S.
        patch_size: pixels a side of a patch; divides ``image_size``.
    """

    image_size: int = field(kw_only=True)
    patch_size: int = field(kw_only=True)
    is_causal: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        side = self.patch_size
        if not 1 <= side <= self.image_size // 2 or self.image_size % side:
            required, remedy = f"a divisor of the {self.image_size} pixels, at most half", "take 4 for 28 or 32 pixels"
            raise InvalidArgument("VisionConfig", "patch_size", required=required, received=f"{side}", remedy=remedy)
        for name, value, required in (
            ("vocabulary_size", self.vocabulary_size == side**2, f"{side**2}, the pixels of a patch"),
            ("width", self.width % 4 == 0, "a multiple of 4"),
            ("num_outputs", self.num_outputs is not None, "the number of labels"),
        ):
            if not value:
                received, remedy = f"{getattr(self, name)}", "make the configuration with `vision_recipe`"
                raise InvalidArgument("VisionConfig", name, required=required, received=received, remedy=remedy)

    @property
    def num_patches(self) -> int:
        """Patches of a picture, L."""
        return (self.image_size // self.patch_size) ** 2


class VisionTransformer(Decoder):
    """A vision Transformer; its methods are those of ``Decoder``, with pictures (B, S, S) from 0 to 1 for tokens.

    Where a decoder returns its last position (``last_only``), this returns the mean over all patches.

    Args:
        config: a ``VisionConfig``.
        seed: as for ``Decoder``.
    """

    def embedded(self, tokens: Tensor) -> Tensor:
        """Return the input of the first block, (B, L, D)."""
        patches = patches_of(tokens, _vision(self.config).patch_size)
        embedded = linear(patches, self.embedding.weight.T * math.sqrt(self.config.width))
        return embedded + self._positions(patches.shape[1])

    def position_vectors(self, length: int) -> Tensor:
        """Return the vectors of the rows and columns of patches, (L, D)."""
        num = math.isqrt(length)
        along = sinusoids(num, self.config.width // 2)
        rows, columns = along[:, None].expand(num, num, -1), along[None].expand(num, num, -1)
        return torch.cat([rows, columns], dim=-1).flatten(0, 1)

    def summary(self, x: Tensor) -> Tensor:
        """Return what stands for a picture: the mean over patches, (B, D)."""
        return x.mean(1)


def patches_of(pictures: Tensor, side: int) -> Tensor:
    """Cut pictures (B, S, S) into patches, row by row from the top: (B, L, side²)."""
    return pictures.unfold(1, side, side).unfold(2, side, side).flatten(3).flatten(1, 2)


def class_of(config: DecoderConfig) -> type[Decoder]:
    """Return the class of the network that a configuration is for."""
    return VisionTransformer if isinstance(config, VisionConfig) else Decoder


def _vision(config: DecoderConfig) -> VisionConfig:
    assert isinstance(config, VisionConfig)  # ``class_of`` chooses by it
    return config
