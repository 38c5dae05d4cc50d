"""Images, volumes and videos: grey patterns whose brightness follows the latents, with grain.

There is one pattern per latent: a round spot and two crossed bars. They differ in shape and in position, so that
networks that average over the picture can also distinguish them. In a volume every pattern has its own depth; in a
video it moves. Letters: N patients, K latents, T slices or frames (1 in an image), H rows, W columns.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from remind.data.cohort.kinds.pictures import Files, ImageSchema, Reading, VolumeSchema
from remind.data.synthetic.features.base import FEATURE_NOISE, LATENTS, Asked, makes

SLICES = 8  # of a volume; frames of a video
MIDDLE, CONTRAST, GRAIN = 128.0, 36.0, 8.0  # grey levels: background, per unit of a latent, standard deviation
PLACE = 0.35  # largest distance of a pattern from the centre; half a side is 1
LENGTHS, WIDTHS = (0.3, 0.8, 0.8), (0.3, 0.14, 0.14)  # of the K patterns, standard deviations along and across
DEPTH, THICKNESS = 0.6, 0.45  # of the patterns in a volume: largest distance from the middle, standard deviation
WANDER = 0.35  # how far a pattern in a video moves to either side


@makes("image", "volume", "video")
def make_pictures(asked: Asked) -> tuple[ImageSchema | VolumeSchema, Files]:
    """Draw pictures (uint8), only of the patients who have the modality, because pictures are large."""
    kind, name, side, rng = asked.kind, asked.name, asked.size, asked.rng
    latents_NK, present_N = asked.latents_NK, asked.present_N
    pattern_KTHW = _patterns(kind, side, rng)
    source_N = np.full(len(present_N), None, dtype=object)
    for i in np.flatnonzero(present_N):
        seen_K = latents_NK[i] + FEATURE_NOISE * rng.standard_normal(LATENTS)
        grain_THW = GRAIN * rng.standard_normal(pattern_KTHW.shape[1:], dtype=np.float32)
        grey_THW = MIDDLE + CONTRAST * np.tensordot(seen_K.astype(np.float32), pattern_KTHW, axes=1) + grain_THW
        pixels = np.clip(np.rint(grey_THW), 0, 255).astype(np.uint8)
        source_N[i] = pixels[0] if kind == "image" else pixels
    if kind == "image":
        return ImageSchema(name=name, size=(side, side), channels=1), Files(source_N)
    stack: Literal["volume", "video"] = "video" if kind == "video" else "volume"
    schema = VolumeSchema(kind=stack, name=name, size=(SLICES, side, side), channels=1)
    return schema, Files(source_N, Reading(resize=False))


def _patterns(kind: str, side: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return the K patterns, (K, T, H, W), with maximum 1."""
    axis = np.linspace(-1, 1, side)
    y_1H1, x_11W = axis[None, :, None], axis[None, None, :]
    t_T11 = np.linspace(-1, 1, SLICES)[:, None, None] if kind != "image" else np.zeros((1, 1, 1))
    place_K2 = rng.uniform(-PLACE, PLACE, (LATENTS, 2))
    angle_K = rng.uniform(0, np.pi) + np.pi / 2 * np.arange(LATENTS)  # the two bars are at a right angle
    depth_K = rng.permutation(np.linspace(-DEPTH, DEPTH, LATENTS))
    course_K = rng.uniform(0, 2 * np.pi, LATENTS)
    patterns = []
    for k in range(LATENTS):
        away_T11 = WANDER * t_T11 if kind == "video" else 0.0 * t_T11
        dy_THW = y_1H1 - place_K2[k, 0] - away_T11 * np.sin(course_K[k])
        dx_THW = x_11W - place_K2[k, 1] - away_T11 * np.cos(course_K[k])
        along_THW = dx_THW * np.cos(angle_K[k]) + dy_THW * np.sin(angle_K[k])
        across_THW = dy_THW * np.cos(angle_K[k]) - dx_THW * np.sin(angle_K[k])
        exponent_THW = (along_THW / LENGTHS[k]) ** 2 + (across_THW / WIDTHS[k]) ** 2
        if kind == "volume":
            exponent_THW = exponent_THW + ((t_T11 - depth_K[k]) / THICKNESS) ** 2
        patterns.append(np.exp(-0.5 * exponent_THW))
    return np.stack(patterns).astype(np.float32)
