"""A mask per patient: which voxels of the volumes belong to each of R regions, which may overlap or be nested.

The mask's file has a whole number per voxel; a region is a set of these numbers. A model gives a logit per region and
voxel. Loss of a patient, mean over regions:

    BCE + 1 − (2·Σ p·y + 1) / (Σ p² + Σ y² + 1)        (soft Dice of Milletari et al. 2016, smoothed by 1)

Scores follow the convention of BraTS where a region is empty: Dice is 1 and HD95 is 0 if none of its voxels is
predicted; if only one of the two is empty, Dice is 0 and HD95 the diagonal of the volume. So each patient counts in
each region.

Shapes: as in `remind.outcomes.base`; R regions, V voxels, D, H, W sides of a volume.
"""

from collections.abc import Mapping, Sequence
from math import log, prod
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from typing_extensions import override

from remind.metrics.segmentation import MOST_REGIONS, OF_ALL, OF_REGION, of_all, of_region, sums
from remind.metrics.statistics import GroupStatistics
from remind.metrics.surfaces import hausdorff_95
from remind.outcomes.base import (
    Column,
    Encoded,
    Floats,
    Integers,
    LabelSection,
    MaskForm,
    Name,
    Outcome,
    Seen,
    register,
)
from remind.outcomes.group_sums import gather

if TYPE_CHECKING:
    from torch import Tensor

Side = Annotated[int, Field(ge=4, le=1024)]
Millimetres = Annotated[float, Field(gt=0, le=1000)]
Number = Annotated[int, Field(ge=1, le=255)]
RegionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
Regions = Annotated[
    dict[RegionName, Annotated[tuple[Number, ...], Field(min_length=1)]],
    Field(min_length=1, max_length=MOST_REGIONS),
]
SMOOTH = 1.0  # voxels


class SegmentationSection(LabelSection):
    """``[label]`` of masks: the column of their files, and which numbers in them make each region."""

    kind: Literal["segmentation"]
    file: Name = "mask"
    size: tuple[Side, Side, Side]
    regions: Regions
    spacing: tuple[Millimetres, Millimetres, Millimetres] = (1.0, 1.0, 1.0)
    resize: bool = False

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for name, numbers in self.regions.items():
            if len(set(numbers)) < len(numbers):
                raise ValueError(f"region {name} lists a number twice: name each once")
        return self

    @property
    @override
    def outcome(self) -> "Segmentation":
        return Segmentation(size=self.size, regions=tuple(self.regions.items()), spacing=self.spacing)

    @property
    @override
    def columns(self) -> tuple[Column, ...]:
        return (Column(self.file, "label.file", paths=True),)

    @classmethod
    @override
    def of(cls, outcome: Any) -> Self:
        return cls(kind="segmentation", size=outcome.size, regions=dict(outcome.regions), spacing=outcome.spacing)


@register
class Segmentation(Outcome):
    """R regions of volumes of one size; outputs are logits (R·V), targets the numbers of the mask (V)."""

    section: ClassVar[type[LabelSection]] = SegmentationSection
    chief: ClassVar[str] = "dice"
    title: ClassVar[str] = "a mask of regions"
    undefined: ClassVar[str] = "the Dice of a region that there is not"

    kind: Literal["segmentation"] = "segmentation"
    size: tuple[int, int, int]
    regions: tuple[tuple[str, tuple[int, ...]], ...]
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @property
    @override
    def mask(self) -> MaskForm | None:
        values = sorted({number for _, numbers in self.regions for number in numbers})
        return MaskForm(self.size, tuple(values), len(self.regions))

    @property
    @override
    def parts(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.regions)

    @property
    @override
    def width(self) -> int:
        return len(self.regions) * prod(self.size)

    @property
    @override
    def strata(self) -> tuple[str, ...]:
        return ("mask",)

    @property
    @override
    def chance_loss(self) -> float:
        return log(2) + 1  # half a chance at each voxel: its Dice is about 0 for a small region

    @property
    @override
    def values(self) -> tuple[str, ...]:
        return tuple(f"volume_{name}" for name in self.parts)

    @property
    @override
    def sums(self) -> int:
        return len(self.regions) * len(OF_REGION) + len(OF_ALL)

    @property
    def diagonal(self) -> float:
        """Longest distance in a volume, in mm."""
        return float(np.linalg.norm(np.array(self.size) * self.spacing))

    @override
    def encode(self, columns: Sequence[NDArray[Any]]) -> Encoded:
        (path_R,) = columns
        known_R = np.array([path is not None for path in path_R], dtype=bool)
        return Encoded(np.where(known_R, 0, -1).astype(np.int64), file_R=path_R)

    @override
    def decode(self, label_N: Integers, target_NT: Floats | None) -> dict[str, list[Any]]:
        return {}  # the files are no numbers: `remind.data.cohort.masks` copies them

    @override
    def alike(self, label_N: Integers, target_NT: Floats | None) -> str:
        return ""

    @override
    def lacking(self, label_N: Integers, target_NT: Floats | None) -> list[str]:
        return []

    def inside(self, target_BV: NDArray[Any]) -> NDArray[np.bool_]:
        """Return which voxels belong to each region, (B, R, V)."""
        return np.stack([np.isin(target_BV, numbers) for _, numbers in self.regions], axis=1)

    @override
    def loss(self, raw_BW: "Tensor", target: "Tensor") -> "Tensor":
        import torch
        from torch.nn import functional

        raw_BRV = raw_BW.view(len(raw_BW), len(self.regions), -1)
        numbers = [torch.tensor(own, dtype=target.dtype, device=target.device) for _, own in self.regions]
        y_BRV = torch.stack([torch.isin(target, own) for own in numbers], dim=1).to(raw_BW.dtype)
        entropy_BR = functional.binary_cross_entropy_with_logits(raw_BRV, y_BRV, reduction="none").mean(dim=2)
        p_BRV = raw_BRV.sigmoid()
        size_BR = (p_BRV**2).sum(dim=2) + y_BRV.sum(dim=2)
        dice_BR = (2 * (p_BRV * y_BRV).sum(dim=2) + SMOOTH) / (size_BR + SMOOTH)
        return (entropy_BR + 1 - dice_BR).mean(dim=1)

    @override
    def predict(self, raw_NW: Floats) -> Floats:
        """Return the volume of each region, in ml."""
        voxel_ml = prod(self.spacing) / 1000
        voxels_NR: Floats = self.found(raw_NW).sum(axis=2) * voxel_ml
        return voxels_NR

    def found(self, raw_NW: Floats) -> NDArray[np.bool_]:
        """Return which voxels are predicted to belong to each region, (N, R, V)."""
        found: NDArray[np.bool_] = raw_NW.reshape(len(raw_NW), len(self.regions), -1) > 0
        return found

    def numbers(self, raw_NW: Floats) -> NDArray[np.uint8]:
        """Return the mask (N, V) in the numbers of the files: of each voxel the number with the largest score.

        The score of a number is the sum of the logits of its regions, 0 of the number 0. Where the regions of a voxel
        are those of a number (nested regions in order), this is the mask of these regions.
        """
        values = np.array([0, *(() if self.mask is None else self.mask.values)], dtype=np.uint8)
        member_KR = np.array([[value in numbers for _, numbers in self.regions] for value in values.tolist()])
        raw_NRV = raw_NW.reshape(len(raw_NW), len(self.regions), -1)
        score_NKV = np.einsum("kr,nrv->nkv", member_KR.astype(np.float64), raw_NRV)
        numbers_NV: NDArray[np.uint8] = values[score_NKV.argmax(axis=1)]
        return numbers_NV

    @override
    def collect(self, seen: Seen, raw_BW: Floats, temperature: float = 1.0) -> dict[int, GroupStatistics]:
        import torch

        assert seen.target_BT is not None
        loss_B = self.loss(torch.from_numpy(raw_BW), torch.from_numpy(seen.target_BT)).numpy()
        y_BRV, found_BRV = self.inside(seen.target_BT), self.found(raw_BW)
        true_BR, predicted_BR = (one.sum(axis=2).astype(np.float64) for one in (y_BRV, found_BRV))
        both_BR = (y_BRV & found_BRV).sum(axis=2).astype(np.float64)
        volume_BR = true_BR + predicted_BR
        dice_BR = np.where(volume_BR > 0, 2 * both_BR / np.maximum(volume_BR, 1), 1.0)
        sums_BS = sums(dice_BR, self.hd95(y_BRV, found_BRV), both_BR, true_BR, predicted_BR, self.diagonal)
        return gather(self, seen, loss_B, sums_BS)

    def hd95(self, y_BRV: NDArray[np.bool_], found_BRV: NDArray[np.bool_]) -> Floats:
        """Return the 95th percentile of the distances between true and predicted borders, in mm, (B, R)."""
        some_BR, called_BR = y_BRV.any(axis=2), found_BRV.any(axis=2)
        hd95_BR = np.where(some_BR == called_BR, 0.0, self.diagonal)
        for b, r in np.argwhere(some_BR & called_BR):
            one, other = (array[b, r].reshape(self.size) for array in (y_BRV, found_BRV))
            hd95_BR[b, r] = min(hausdorff_95(one, other, self.spacing), self.diagonal)
        return hd95_BR

    @override
    def problem(self, statistics: GroupStatistics) -> str:
        if found := super().problem(statistics):
            return found
        n, most, slack = statistics.count, prod(self.size), 1 + 1e-9
        everything, longest = of_all(statistics), self.diagonal
        if abs(everything["longest"] - n * longest) > 1e-6 * n * longest:
            return "its volumes have another size or spacing"
        if not (0 <= everything["dice2"] <= n * slack and 0 <= everything["hd952"] <= n * longest**2 * slack):
            return "its sums over regions are beyond what so many patients can have"
        for region, name in enumerate(self.parts):
            own = of_region(statistics, region)
            if problem := _problem(own, n, most, longest):
                return f"region {name}: {problem}"
        return ""

    @classmethod
    @override
    def made(cls, score_N: Floats, rng: np.random.Generator) -> tuple["Segmentation", Encoded]:
        raise TypeError("synthetic masks follow from the volumes: remind.data.synthetic.tumours makes both")

    @override
    def describe(self) -> str:
        return f"a mask of {'×'.join(map(str, self.size))} voxels with the regions {', '.join(self.parts)}"


def _problem(own: Mapping[str, float], n: int, most: int, longest: float) -> str:
    """Return why no n patients can have these sums of a region."""
    slack = 1 + 1e-9
    for name, limit in (("dice", 1.0), ("hd95", longest)):
        total, squares = own[name], own[f"{name}2"]
        if not (0 <= total <= n * limit * slack and total**2 <= n * squares * slack + 1e-9):
            return f"its sums of {name} do not fit each other"
        if squares > total * limit * slack + 1e-9:
            return f"its squares of {name} are more than such a sum can have"
    if not 0 <= own["both"] <= min(own["true"], own["predicted"]) or max(own["true"], own["predicted"]) > n * most:
        return "its voxels are more than so many volumes have"
    return ""
