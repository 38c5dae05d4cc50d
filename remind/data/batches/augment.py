"""Light augmentation of training pictures, to imitate a second exposure of the same patient.

Pictures are never mirrored: the heart lies on the left, and the side of a breast is part of its label.
"""

from typing import Any

import torch
from torch import Tensor

from remind.seeds import seeded

ANGLE = 7.0  # degrees
SHIFT = 0.05  # of each side
ZOOM = (0.9, 1.1)
CONTRAST = 0.15


def augment(picture: Tensor, seed: int) -> Tensor:
    """Rotate, shift, scale and brighten a picture (channels, H, W) or volume (channels, D, H, W) in [0, 1] slightly.

    All slices or frames of a volume are transformed alike. The same seed gives the same result in any process.
    """
    from torchvision.transforms import v2

    slices = picture.transpose(0, 1) if picture.dim() == 4 else picture.unsqueeze(0)
    moved = _moved(v2.InterpolationMode.BILINEAR)
    lit = v2.ColorJitter(brightness=CONTRAST, contrast=CONTRAST)
    with seeded(seed), torch.no_grad():
        out: Tensor = moved(slices)
        if picture.shape[0] in (1, 3):
            out = lit(out)
    return out.transpose(0, 1) if picture.dim() == 4 else out.squeeze(0)


def augment_mask(mask: Tensor, seed: int) -> Tensor:
    """Move a mask (D, H, W) as `augment` moves a volume of this size with the same seed: to the nearest voxel."""
    from torchvision.transforms import v2

    with seeded(seed), torch.no_grad():
        out: Tensor = _moved(v2.InterpolationMode.NEAREST)(mask.unsqueeze(1)).squeeze(1)
    return out


def _moved(interpolation: Any) -> Any:
    from torchvision.transforms import v2

    return v2.RandomAffine(ANGLE, (SHIFT, SHIFT), ZOOM, interpolation=interpolation)
