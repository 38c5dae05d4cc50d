"""The dense head: feature maps of the present sequences → a logit per region and voxel, steered by fusion.

    F_l = W_l·[mean_i A_{l,i} M_{l,i}; max_i A_{l,i} M_{l,i}]   over the present sequences i, for each level l
    X_L = (1 + γ_L)·F_L + β_L;   X_l = conv[up X_{l+1}; F_l]·(1 + γ_l) + β_l;   logits = W·X_1

M_{l,i} is the map of level l of sequence i, from the encoder of its hospital (`remind.encoders.unet`). γ_l and β_l, a
scale and a shift per channel (Perez et al., AAAI 2018, arXiv 1709.07871), are linear in the vector that a fusion model
gives for the patient in place of class logits. So every fusion model works unchanged, its tokens steer the mask, and
modalities without maps, such as a table, take part too. Mean and maximum over the present sequences are those of HeMIS
(Havaei et al., MICCAI 2016, arXiv 1607.05194, which has mean and variance).

Shapes: B patients, m modalities, n of them with maps, L levels, d_l channels, T steering numbers, R regions, V voxels.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from remind.config import Count, Section

Maps = Sequence[Sequence[Tensor]]  # of each modality with maps, of each level: (B, d_l, D_l, H_l, W_l)


class DenseForm(Section):
    """What the dense head is built for."""

    mapped: tuple[int, ...] = Field(description="positions of the modalities with maps, in schema order")
    shapes: tuple[tuple[int, int, int, int], ...] = Field(description="channels and sides of each level, equal for all")
    regions: Count = Field(description="R")


class DenseHead(nn.Module):
    """Merges the maps of the present sequences and expands them to logits."""

    def __init__(self, form: DenseForm, steering: int) -> None:
        super().__init__()
        from monai.networks.blocks.convolutions import Convolution

        self.form = form
        channels = [shape[0] for shape in form.shapes]
        self.adapters = nn.ModuleList(
            nn.ModuleList(nn.Conv3d(d, d, kernel_size=1) for _ in form.mapped) for d in channels
        )
        self.merged = nn.ModuleList(Convolution(3, 2 * d, d, kernel_size=1, bias=False) for d in channels)
        pairs = pairwise(channels)
        self.expanded = nn.ModuleList(Convolution(3, d + deeper, d, bias=False) for d, deeper in pairs)
        self.steer = nn.Linear(steering, 2 * sum(channels))
        self.out = nn.Conv3d(channels[0], form.regions, kernel_size=1)

    def forward(self, maps: Maps, steering_BT: Tensor, presence_Bm: Tensor) -> Tensor:
        """Return logits (B, R·V). Maps of modalities that are not in `presence_Bm` have no effect."""
        present_Bn = presence_Bm[:, list(self.form.mapped)]
        channels = [shape[0] for shape in self.form.shapes]
        gain, shift = self.steer(steering_BT).chunk(2, dim=1)
        gains, shifts = gain.split(channels, dim=1), shift.split(channels, dim=1)
        found = None
        for level in reversed(range(len(channels))):
            x = self.merged[level](self._together(level, [own[level] for own in maps], present_Bn))
            if found is not None:
                wide = functional.interpolate(found, size=x.shape[2:], mode="trilinear", align_corners=False)
                x = self.expanded[level](torch.cat([wide, x], dim=1))
            found = x * (1 + gains[level][:, :, None, None, None]) + shifts[level][:, :, None, None, None]
        assert found is not None
        logits: Tensor = self.out(found)
        return logits.flatten(1)

    def _together(self, level: int, maps: Sequence[Tensor], present_Bn: Tensor) -> Tensor:
        """Return mean and maximum over the present sequences, (B, 2·d_l, D_l, H_l, W_l); 0 where none is present."""
        adapters = self.adapters[level]
        assert isinstance(adapters, nn.ModuleList)
        there = [present_Bn[:, i, None, None, None, None] for i in range(len(maps))]
        own = [adapter(torch.where(has, one, 0.0)) for adapter, one, has in zip(adapters, maps, there, strict=True)]
        number = present_Bn.sum(dim=1).clamp(min=1)[:, None, None, None, None]
        mean = sum(torch.where(has, one, 0.0) for one, has in zip(own, there, strict=True)) / number
        most = torch.stack([torch.where(has, one, -torch.inf) for one, has in zip(own, there, strict=True)]).amax(dim=0)
        return torch.cat([mean, torch.where(most == -torch.inf, 0.0, most)], dim=1)
