"""Distances between the borders of two masks."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def hausdorff_95(one: NDArray[np.bool_], other: NDArray[np.bool_], spacing: Sequence[float]) -> float:
    """Return the 95th percentile of the distances from each border to the other, the larger of both directions.

    As MONAI defines it (`compute_hausdorff_distance`): a voxel is of the border if one of its six neighbours is
    outside. MONAI's own takes longer, and seconds to import.

    Parameters
    ----------
    one, other
        Masks (D, H, W) with at least one voxel each.
    spacing
        Size of a voxel along each axis, in mm.
    """
    from scipy.ndimage import binary_erosion  # scipy takes long to import, and a prediction needs no score
    from scipy.spatial import KDTree

    place_3N = np.nonzero(one | other)
    box = tuple(slice(place_N.min(), place_N.max() + 1) for place_N in place_3N)
    borders = [np.argwhere(mask[box] & ~binary_erosion(mask[box])) * np.asarray(spacing) for mask in (one, other)]
    ways = (borders, borders[::-1])
    return max(float(np.percentile(KDTree(to_N3).query(from_N3)[0], 95)) for from_N3, to_N3 in ways)
