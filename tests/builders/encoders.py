"""Small encoders of pictures and volumes, their inputs, and reference results."""

import torch
from torch import nn

from remind.config import Config, Scalar
from remind.data.cohort.kinds.pictures import ImageSchema, VolumeSchema
from remind.encoders import build_encoder
from tests.builders.configs import SIZE

SMALL: dict[str, Scalar] = {
    **SIZE,
    "model.dropout": 0.0,
    "model.hide": 0.0,
    "model.encoders.image-weights": "random",
    "model.encoders.volume-weights": "random",
}


def config(changes: dict[str, Scalar]):
    """Config of a small model, whose backbones are random."""
    return Config.from_flat(SMALL | changes).model


def image_encoder(name="test_resnet", size=(64, 64), channels=3, tokens=4, seed=0, **weights):
    changes = {"model.encoders.image": name, "model.tokens": tokens} | {
        f"model.encoders.{key.replace('_', '-')}": value for key, value in weights.items()
    }
    return build_encoder(ImageSchema(name="i", size=size, channels=channels), config(changes), seed)


def volume_encoder(name="resnet10", size=(32, 64, 64), channels=1, tokens=4, seed=0, **weights):
    changes = {"model.encoders.volume": name, "model.tokens": tokens} | {
        f"model.encoders.{key.replace('_', '-')}": value for key, value in weights.items()
    }
    return build_encoder(VolumeSchema(name="v", size=size, channels=channels), config(changes), seed)


def pixels(*shape: int, seed=0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def without_gradient(made: nn.Module, inputs) -> list[str]:
    """Names of the parameters that a loss on the tokens does not reach; weights that start at 0 block the way."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator).to(p))
    out = made(inputs)
    (out * torch.randn(out.shape, generator=generator).to(out)).sum().backward()
    return [name for name, p in made.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


def means(map_dX: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Adaptive average pooling by hand: cell i of n on a side of s covers ⌊i·s/n⌋ … ⌈(i+1)·s/n⌉ − 1."""
    sides = map_dX.shape[1:]
    out = []
    for cell in torch.cartesian_prod(*map(torch.arange, shape)).view(-1, len(shape)).tolist():
        window = [slice(i * s // n, -(-(i + 1) * s // n)) for i, s, n in zip(cell, sides, shape, strict=True)]
        out.append(map_dX[(slice(None), *window)].flatten(1).mean(1))
    return torch.stack(out)
