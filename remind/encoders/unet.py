"""Volumes → tokens and feature maps: the contracting half of a U-Net per sequence, of MONAI's blocks.

The tokens go into fusion like those of any modality. If the outcome is a mask, the maps of all levels go to the dense
head (`remind.fusion.dense`), which is the expanding half and is shared by all modalities and hospitals.

Shapes: P patients, C channels, D × H × W voxels, L levels, d_l channels of level l, l tokens, D width.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from remind.config import Count, ModelConfig
from remind.data.cohort.kinds.pictures import VolumeSchema
from remind.encoders.base import DenseEncoder, MapShape, register
from remind.encoders.pooling import grid, pool_map
from remind.registry import Options

MIDDLE, SPREAD = 0.5, 0.5  # pixels in [0, 1] are mapped to [−1, 1]


class UNetOptions(Options):
    """Size of the network."""

    channels: Count = Field(8, description="channels of the first level; each further level has twice as many")
    levels: int = Field(3, ge=1, le=6, description="levels; each further one has half the voxels along each side")


@register(
    VolumeSchema,
    "unet",
    title="contracting half of a 3-D U-Net of MONAI's blocks, whose maps a dense head uses",
    paper="Çiçek et al., MICCAI 2016, arXiv 1606.06650",
    year=2016,
    options=UNetOptions,
)
class UNetEncoder(DenseEncoder):
    """Two convolutions per level with instance norms; one token per cell of a grid on the deepest map."""

    def __init__(self, schema: VolumeSchema, config: ModelConfig, options: UNetOptions) -> None:
        super().__init__(schema, config)
        shapes = self.map_shapes(schema, config, options)
        before: int = schema.channels
        self.levels = nn.ModuleList()
        for level, (channels, *_) in enumerate(shapes):
            self.levels.append(
                nn.Sequential(convolution(before, channels, 2 if level else 1), convolution(channels, channels))
            )
            before = channels
        self.cells = grid(shapes[-1][1:], config.tokens)
        self.adapter = nn.Linear(before, config.width)

    @staticmethod
    @override
    def token_count(schema: VolumeSchema, config: ModelConfig, options: UNetOptions) -> int:  # type: ignore[override]
        deepest = UNetEncoder.map_shapes(schema, config, options)[-1]
        return prod(grid(deepest[1:], config.tokens))

    @staticmethod
    @override
    def map_shapes(  # type: ignore[override]
        schema: VolumeSchema, config: ModelConfig, options: UNetOptions
    ) -> tuple[MapShape, ...]:
        sides, shapes = schema.size, []
        for level in range(options.levels):
            shapes.append((options.channels * 2**level, *sides))
            sides = tuple((side + 1) // 2 for side in sides)  # type: ignore[assignment]
        return tuple(shapes)

    @staticmethod
    @override
    def positions(config: ModelConfig) -> int:
        return 5000

    @override
    def dense(self, inputs: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        maps, found = [], (inputs - MIDDLE) / SPREAD
        for level in self.levels:
            found = level(found)
            maps.append(found)
        return self.adapter(pool_map(found, self.cells)), maps


def convolution(before: int, after: int, stride: int = 1) -> nn.Module:
    """Return MONAI's convolution with instance norm and PReLU."""
    from monai.networks.blocks.convolutions import Convolution

    block: Any = Convolution(3, before, after, strides=stride, bias=False)
    return block  # type: ignore[no-any-return]
