"""Dice of masks: mean over regions, of each region, and of all patients' voxels together."""

from remind.metrics.score import Score, register
from remind.metrics.segmentation import pooled_dice, register_mean, register_regions

register_mean("dice")
register_regions("dice")
register(
    Score(
        "dice_pooled",
        "Dice of all voxels together",
        "Dice p.",
        "Dice of all patients' voxels together, mean over regions: large regions count more",
        pooled_dice,
        outcomes=("segmentation",),
    )
)
