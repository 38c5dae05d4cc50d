"""Images → tokens: any backbone of timm, its CLS token, and its feature map pooled to an even grid.

Shapes: P patients, C channels, H × W pixels, d width of the backbone, n tokens of a transformer, l tokens, D width.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from remind.config import ModelConfig
from remind.data.cohort.kinds.pictures import ImageSchema
from remind.encoders import timm_net
from remind.encoders.backbone import idle_modules, steady_norms, weightless
from remind.encoders.base import Encoder, register
from remind.encoders.pooling import grid, map_sides, pool_map
from remind.errors import UserError

Size = tuple[int, int]


@register(ImageSchema, "timm", title="a network of timm, model.encoders.image", usual=True)
class ImageEncoder(Encoder):
    """Unpooled CLS (and register) tokens, then the cells of the grid, row by row."""

    mean_C11: Tensor
    std_C11: Tensor

    def __init__(self, schema: ImageSchema, config: ModelConfig) -> None:
        super().__init__(schema, config)
        self.look = _look(config.encoders.image, schema.size, schema.channels)
        self.kept, self.cells = self.look.layout(config.tokens)
        # Built before the backbone, so that its initial weights do not depend on the backbone.
        self.adapter = nn.Linear(self.look.width, config.width)
        self.backbone = timm_net.with_weights(config.encoders, schema.size, schema.channels, self.look.idle)
        for name, values in (("mean_C11", self.look.mean), ("std_C11", self.look.std)):
            self.register_buffer(name, _per_channel(values, schema.channels).view(-1, 1, 1), persistent=False)

    @staticmethod
    @override
    def positions(config: ModelConfig) -> int:
        return 200  # positions of a feature map, averaged over the layers

    @staticmethod
    def token_count(schema: ImageSchema, config: ModelConfig) -> int:
        """Return the number of unpooled tokens plus the cells of the grid."""
        kept, cells = _look(config.encoders.image, schema.size, schema.channels).layout(config.tokens)
        return kept + prod(cells) if cells else kept

    def forward(self, inputs: Tensor) -> Tensor:
        """Encode pixels (P, C, H, W) in [0, 1] → (P, l, D)."""
        with steady_norms(self.backbone, len(inputs)):
            features = self.backbone((inputs - self.mean_C11) / self.std_C11)
        parts = [features[:, : self.kept]] if self.kept else []
        if self.cells:
            parts.append(pool_map(self.look.map(features), self.cells))
        out: Tensor = self.adapter(torch.cat(parts, dim=1))
        return out


@dataclass(frozen=True)
class _Look:
    """Properties of a backbone that are known without its weights.

    Attributes
    ----------
    width
        d.
    prefix
        Number of tokens before those of the patches; 0 if the features are a map.
    sides
        Rows and columns of patches.
    idle
        Modules that do not affect the features.
    mean, std
        Statistics, per channel, of the pixels that its weights were trained with.
    """

    width: int
    prefix: int
    sides: Size
    idle: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def layout(self, tokens: int) -> tuple[int, tuple[int, ...]]:
        """Return how many tokens of the prefix are kept, and the grid of the other tokens; () if there are none.

        If a prefix (register tokens) leaves no token for the image itself, only its first token, CLS, is kept.
        """
        kept = self.prefix if self.prefix < tokens else min(self.prefix, 1)
        return kept, grid(self.sides, tokens - kept) if tokens > kept else ()

    def map(self, features: Tensor) -> Tensor:
        """Return the feature map (P, d, rows, columns) from features of either form."""
        if features.dim() == 4:
            return features
        patches_Pdn = features[:, self.prefix :].transpose(1, 2)
        return patches_Pdn.reshape(*patches_Pdn.shape[:2], *self.sides)


@lru_cache(maxsize=64)
def _look(name: str, size: Size, channels: int) -> _Look:
    """Build the backbone without memory and inspect its output.

    Raises
    ------
    UserError
        The backbone does not exist, cannot process such images, or returns no feature map.
    """
    import timm  # noqa: F401 - before `weightless`, in which nothing may be imported that makes tensors

    about = timm_net.about(name)
    with weightless(), timm_net.refusals(name, size):
        net: Any = timm_net.create(name, size, channels)
        features = timm_net.Features(net).eval()
        pixels = torch.zeros(1, channels, *size)
        out = features(pixels)
        if not isinstance(out, Tensor) or out.dim() not in {3, 4}:
            raise UserError(f"{about}: gives neither a map nor a row of tokens; {timm_net.OTHER}")
        if out.dim() == 4:
            width, prefix, sides = out.shape[1], 0, (out.shape[2], out.shape[3])
        else:
            width, prefix = out.shape[2], _prefix(about, getattr(net, "num_prefix_tokens", None), out.shape[1], size)
            sides = map_sides(out.shape[1] - prefix, size)
        described = net.pretrained_cfg
        return _Look(width, prefix, sides, idle_modules(features, pixels), described["mean"], described["std"])


def _prefix(about: str, declared: int | None, tokens: int, size: Size) -> int:
    """Return the number of tokens before the patches: as the network declares, else the fewest that leave a map."""
    for prefix in range(3) if declared is None else [declared]:
        if tokens > prefix:
            rows, columns = map_sides(tokens - prefix, size)
            if 0.5 < rows * size[1] / (columns * size[0]) < 2:
                return prefix
    raise UserError(f"{about}: its {tokens} tokens are no map of the picture; {timm_net.OTHER}")


def _per_channel(values: tuple[float, ...], channels: int) -> Tensor:
    """Return the mean or deviation of each channel; for grey images the average over the colour channels."""
    stated = torch.tensor(values)
    return stated if len(stated) == channels else stated.mean().repeat(channels)
