"""Volumes and videos → tokens: a 3-D backbone, whose feature map is pooled to an even grid.

Shapes: P patients, C channels, S slices or frames of H × W pixels, d width of the backbone, l tokens, D width.
"""

from collections import OrderedDict
from functools import lru_cache, partial
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from remind.config import EncoderConfig, ModelConfig
from remind.data.cohort.kinds.pictures import VolumeSchema
from remind.data.cohort.problems import suggest
from remind.encoders.backbone import idle_modules, remove, steady_norms, weightless
from remind.encoders.base import Encoder, register
from remind.encoders.pooling import grid, pool_map
from remind.encoders.pretrained import SECTION, load_file, named_file, torch_hub_file
from remind.errors import UserError, several

Size = tuple[int, int, int]
VIDEO = "r3d_18"
RESNETS = ("resnet10", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnet200")
TRANSFORMER = "vit"
LONGEST_PATCH = 16
MOST_PATCHES = 4096  # the cost of attention grows with its square


@register(VolumeSchema, "stack", title="a 3-D network of torchvision or MONAI, model.encoders.volume", usual=True)
class VolumeEncoder(Encoder):
    """One token per cell of the grid, in the order of slices (or frames), rows, columns."""

    mean_C111: Tensor
    std_C111: Tensor

    def __init__(self, schema: VolumeSchema, config: ModelConfig) -> None:
        super().__init__(schema, config)
        name = config.encoders.volume
        width, sides, idle = _look(name, schema.size, schema.channels)
        self.cells = grid(sides, config.tokens)
        self.adapter = nn.Linear(width, config.width)  # built first: its initial weights do not depend on the backbone
        self.backbone = _network(name, schema.size, schema.channels)
        remove(self.backbone, idle)
        _load(self.backbone, config.encoders)
        mean_C, std_C = _statistics(name, schema.channels)
        self.register_buffer("mean_C111", mean_C.view(-1, 1, 1, 1), persistent=False)
        self.register_buffer("std_C111", std_C.view(-1, 1, 1, 1), persistent=False)

    @staticmethod
    @override
    def positions(config: ModelConfig) -> int:
        return 5000  # positions of a feature map, averaged over the layers

    @staticmethod
    def token_count(schema: VolumeSchema, config: ModelConfig) -> int:
        """Return the number of cells of the grid."""
        _, sides, _ = _look(config.encoders.volume, schema.size, schema.channels)
        return prod(grid(sides, config.tokens))

    def forward(self, inputs: Tensor) -> Tensor:
        """Encode pixels (P, C, S, H, W) in [0, 1] → (P, l, D)."""
        with steady_norms(self.backbone, len(inputs)):
            # the statistics of three channels broadcast a single channel to three
            map_PdSHW = self.backbone((inputs - self.mean_C111) / self.std_C111)
        out: Tensor = self.adapter(pool_map(map_PdSHW, self.cells))
        return out


@lru_cache(maxsize=64)
def _look(name: str, size: Size, channels: int) -> tuple[int, Size, tuple[str, ...]]:
    """Return d, the sides of the feature map, and the unused modules of a backbone, built without memory for weights.

    Raises
    ------
    UserError
        The backbone does not exist, or cannot process such volumes.
    """
    _import(name)
    with weightless():
        net = _network(name, size, channels).eval()
        pixels = torch.zeros(1, 3 if name == VIDEO else channels, *size)
        shape = net(pixels).shape
        return shape[1], (shape[2], shape[3], shape[4]), idle_modules(net, pixels)


def _about(name: str) -> str:
    return f"{SECTION}volume = {name!r}"


def _import(name: str) -> None:
    """Import the library of a backbone before `weightless`, inside which no import may create tensors."""
    if name == VIDEO:
        import torchvision.models.video  # noqa: F401
    elif name in RESNETS or name == TRANSFORMER:
        import monai.networks.nets  # noqa: F401
    else:
        known = (VIDEO, *RESNETS, TRANSFORMER)
        raise UserError(f"{_about(name)}: no such backbone; {suggest(name, known)}, of {', '.join(known)}")


def _network(name: str, size: Size, channels: int) -> nn.Module:
    """Build a randomly initialised backbone: standardised pixels (P, C, S, H, W) → feature map (P, d, …)."""
    if name == VIDEO:
        from torchvision.models.video import r3d_18

        whole = r3d_18(weights=None)
        parts = ("stem", "layer1", "layer2", "layer3", "layer4")
        return nn.Sequential(OrderedDict((part, getattr(whole, part)) for part in parts))
    return _ResNet(name, channels) if name in RESNETS else _Transformer(size, channels)


class _ResNet(nn.Module):
    """MONAI's ResNet with MedicalNet's layout, up to its last feature map, a 32nd of each side."""

    def __init__(self, name: str, channels: int) -> None:
        super().__init__()
        from monai.networks.nets.resnet import ResNetFeatures

        self.net = ResNetFeatures(name, pretrained=False, spatial_dims=3, in_channels=channels)
        for block in list(self.net.modules()):
            if isinstance(shortcut := getattr(block, "downsample", None), partial):
                block.downsample = _Shortcut(shortcut.keywords["planes"], shortcut.keywords["stride"])

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the last feature map."""
        out: Tensor = self.net(pixels)[-1]
        return out


class _Shortcut(nn.Module):
    """The shortcut of ResNet-18 and -34, subsampled and padded with zeros; MONAI's version passes no gradient."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.width, self.stride = width, stride

    def forward(self, x: Tensor) -> Tensor:
        """Map (P, narrow, …) → (P, width, …), with fewer positions."""
        x = functional.avg_pool3d(x, 1, self.stride)
        return functional.pad(x, (0, 0) * 3 + (0, self.width - x.shape[1]))


class _Transformer(nn.Module):
    """MONAI's ViT. Along each axis, the patch size is the largest divisor of the side, at most 16."""

    def __init__(self, size: Size, channels: int) -> None:
        super().__init__()
        from monai.networks.nets.vit import ViT

        patch = [max(p for p in range(1, LONGEST_PATCH + 1) if side % p == 0) for side in size]
        self.sides = [side // p for side, p in zip(size, patch, strict=True)]
        if prod(self.sides) > MOST_PATCHES:
            raise UserError(
                f"{_about(TRANSFORMER)}: a volume of {' × '.join(map(str, size))} makes {prod(self.sides)} patches of "
                f"{' × '.join(map(str, patch))}, and {MOST_PATCHES} is the most; choose sides in cohort.toml that are "
                f"multiples of {LONGEST_PATCH}"
            )
        self.net = ViT(in_channels=channels, img_size=size, patch_size=patch)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the patches as a map."""
        tokens_Pnd = self.net(pixels)[0]
        out: Tensor = tokens_Pnd.transpose(1, 2).unflatten(2, self.sides)
        return out


def _load(net: nn.Module, config: EncoderConfig) -> None:
    """Load the weights that the user chose into a network.

    Raises
    ------
    UserError
        The weights are not available, or do not fit.
    """
    name, choice = config.volume, config.volume_weights
    key = "volume-weights"
    target: Any = net if name == VIDEO else net.net
    ways_out = [f"set {SECTION}{key} to a file of its weights", f"set {SECTION}{key} to random"]
    if (file := named_file(key, choice)) is not None:
        load_file(key, file, name, target)
    elif choice == "pretrained" and name == VIDEO:
        from torchvision.models.video import R3D_18_Weights

        published = R3D_18_Weights.KINETICS400_V1
        load_file(key, torch_hub_file(_about(name), published.url, ways_out), name, target)
    elif choice == "pretrained":
        raise several(f"{_about(name)}: MONAI has no weights of it that can be loaded by name. Either", ways_out)


def _statistics(name: str, channels: int) -> tuple[Tensor, Tensor]:
    """Return mean and deviation per channel: Kinetics-400's for r3d_18, else those that map [0, 1] to [−1, 1]."""
    if name == VIDEO:
        from torchvision.models.video import R3D_18_Weights

        preset: Any = R3D_18_Weights.KINETICS400_V1.transforms()
        return torch.tensor(preset.mean), torch.tensor(preset.std)
    return torch.full((channels,), 0.5), torch.full((channels,), 0.5)
