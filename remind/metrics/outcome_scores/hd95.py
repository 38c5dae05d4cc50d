"""HD95 of masks, the 95th percentile of the distances between borders: mean over regions, and of each region."""

from remind.metrics.segmentation import register_mean, register_regions

register_mean("hd95")
register_regions("hd95")
