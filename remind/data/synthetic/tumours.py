"""Synthetic volumes with a mask, in the manner of BraTS: sequences of a head with three nested regions in it.

A patient's head is an ellipsoid; in it are three nested ellipsoids around a centre that is drawn for the patient: the
whole tumour, its core, and the part that enhances. Numbers of the mask are those of BraTS: 2 edema (whole without
core), 1 core without the enhancing part, 4 enhancing. Each sequence shows them with other contrasts (`CONTRASTS`), so
that a sequence alone shows some regions and not others: flair the whole tumour, t1ce the enhancing part, t1 little.
Modality i has the contrasts of sequence i, in the order of `SEQUENCES`, again from the first after the fourth.
Letters: N patients, S = D = H = W voxels along a side.
"""

import numpy as np
from numpy.typing import NDArray

from remind.config import SyntheticConfig
from remind.data.cohort.cohort import Cohort, presence
from remind.data.cohort.contents import Contents
from remind.data.cohort.kinds.pictures import Files, Reading, VolumeSchema
from remind.data.cohort.masks import Masks
from remind.data.cohort.schema import CohortSchema, ModalitySchema
from remind.errors import UserError
from remind.outcomes.segmentation import Segmentation

SEQUENCES = ("t1", "t1ce", "t2", "flair")
EDEMA, CORE, ENHANCING = 2, 1, 4  # numbers of the mask
REGIONS = (("whole", (CORE, EDEMA, ENHANCING)), ("core", (CORE, ENHANCING)), ("enhancing", (ENHANCING,)))
# grey levels by which a sequence shows edema, core and the enhancing part lighter than the head
CONTRASTS = {
    "t1": (-10.0, -35.0, -20.0),
    "t1ce": (-5.0, -25.0, 75.0),
    "t2": (45.0, 60.0, 40.0),
    "flair": (65.0, 35.0, 45.0),
}
HEAD, GRAIN = 90.0, 25.0  # grey level of the head; standard deviation of the grain if synthetic.noise is 1
SHADE = 15.0  # largest change of the grey level from one side of the head to the other
HEAD_AXES = (0.8, 0.95)  # half axes of the head, in units of half a side
TUMOUR_AXES = (0.35, 0.6)  # of the whole tumour
CORE_SHARE, ENHANCING_SHARE = (0.6, 0.85), (0.6, 0.85)  # half axes of a region, in units of those of the one around it
ROOM = 0.45  # largest distance of a tumour's centre from that of the head, along each axis


def generate_tumours(
    config: SyntheticConfig, names: tuple[str, ...], presence_Nm: NDArray[np.bool_], seed: int
) -> Cohort:
    """Generate a cohort of volumes (uint8) and masks, in memory, of patients who have these modalities.

    Raises
    ------
    UserError
        ``synthetic.kinds`` names another kind than volumes.
    """
    kinds = {part.strip() for part in config.kinds.split(",") if part.strip()}
    if kinds - {"volume"}:
        raise UserError(
            f"synthetic.kinds: {config.kinds!r}: the synthetic cohort with masks has volumes alone; leave it empty"
        )
    side, n = config.size, len(presence_Nm)
    schemas: list[ModalitySchema] = [VolumeSchema(name=name, size=(side, side, side), channels=1) for name in names]
    source_mN = np.full((len(names), n), None, dtype=object)
    mask_N = np.full(n, None, dtype=object)
    for i in range(n):
        rng = np.random.default_rng([seed, 6, i])
        head, mask_N[i] = _anatomy(side, rng)
        for m in np.flatnonzero(presence_Nm[i]):
            source_mN[m, i] = _volume(head, mask_N[i], SEQUENCES[m % len(SEQUENCES)], config.noise, rng)
    modalities: dict[str, Contents] = {
        name: Files(source_N, Reading(resize=False)) for name, source_N in zip(names, source_mN, strict=True)
    }
    outcome = Segmentation(size=(side, side, side), regions=REGIONS)
    schema = CohortSchema(name=f"synthetic-{config.law}", classes=(), modalities=tuple(schemas), outcome=outcome)
    id_N = np.array([f"p{i:06d}" for i in range(n)], dtype=np.str_)
    assert outcome.mask is not None
    return Cohort(
        schema=schema,
        patient_id_N=id_N,
        person_N=id_N,
        label_N=np.zeros(n, dtype=np.int64),
        site_N=None,
        split_N=None,
        presence_Nm=presence(schema, modalities),
        modalities=modalities,
        masks=Masks(mask_N, outcome.mask),
    )


def _anatomy(side: int, rng: np.random.Generator) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
    """Return where the head is, and the mask, (S, S, S) each."""
    axis = (np.arange(side) + 0.5) / side * 2 - 1
    place = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"))
    head = _within(place, np.zeros(3), rng.uniform(*HEAD_AXES, 3), np.eye(3))
    centre, axes = rng.uniform(-ROOM, ROOM, 3), rng.uniform(*TUMOUR_AXES, 3)
    turned, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    mask = np.zeros((side, side, side), dtype=np.uint8)
    for number, share in ((EDEMA, (1.0, 1.0)), (CORE, CORE_SHARE), (ENHANCING, ENHANCING_SHARE)):
        axes = axes * rng.uniform(*share)
        mask[_within(place, centre, axes, turned) & head] = number
    return head, mask


def _within(
    place: NDArray[np.float64], centre: NDArray[np.float64], axes: NDArray[np.float64], turned: NDArray[np.float64]
) -> NDArray[np.bool_]:
    away = np.einsum("ij,j...->i...", turned, place - centre[:, None, None, None])
    inside: NDArray[np.bool_] = ((away / axes[:, None, None, None]) ** 2).sum(axis=0) <= 1
    return inside


def _volume(
    head: NDArray[np.bool_], mask: NDArray[np.uint8], sequence: str, noise: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Return a sequence's grey levels: contrasts, a shade along a random direction, and grain."""
    edema, core, enhancing = CONTRASTS[sequence]
    grey = np.where(head, HEAD, 0.0)
    for number, contrast in ((EDEMA, edema), (CORE, core), (ENHANCING, enhancing)):
        grey[mask == number] += contrast
    ramp = np.linspace(-1, 1, len(head))
    direction = rng.uniform(-1, 1, 3)
    shade = sum(d * ramp.reshape([-1 if axis == k else 1 for axis in range(3)]) for k, d in enumerate(direction))
    grey = grey + np.where(head, SHADE * shade / 3, 0.0) + GRAIN * noise * rng.standard_normal(head.shape)
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)
