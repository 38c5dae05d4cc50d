"""BraTS: four sequences of MRI of a brain tumour and its mask, a folder per patient (docs/importing.md).

Both spellings of the releases are read, in this folder or in folders of it (HGG, LGG):

    BraTS20_Training_001/BraTS20_Training_001_{t1,t1ce,t2,flair,seg}.nii.gz      2017 to 2021; 4 enhances
    BraTS-GLI-00000-000/BraTS-GLI-00000-000-{t1n,t1c,t2w,t2f,seg}.nii.gz         from 2023; 3 enhances

Each patient's volumes and mask are cut by one box around the brain, so that they stay the same place voxel by voxel.
Letters: N patients, D, H, W sides of a volume.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remind.data.cohort.problems import Problem, counted, listed
from remind.data.cohort.source_files import open_source
from remind.data.files.decode import decode
from remind.data.files.errors import Unreadable, reading
from remind.data.files.mask import fit_mask
from remind.data.importers.common import Summary, cohort_folder, write_declaration, write_table
from remind.data.importers.release import Progress, silent
from remind.errors import UserError, several

SEQUENCES = ("t1", "t1ce", "t2", "flair")
SPELLINGS = {"t1n": "t1", "t1c": "t1ce", "t2w": "t2", "t2f": "flair"} | {name: name for name in SEQUENCES}
MASK, SUFFIXES = "seg", (".nii.gz", ".nii")
NUMBERS = (1, 2, 3, 4)  # 3 of the newer releases is 4 of the older ones, and is written as 4
ENHANCING = 4
REGIONS = {"whole": (1, 2, ENHANCING), "core": (1, ENHANCING), "enhancing": (ENHANCING,)}
WHITE = 65535
PERCENTILE = 99.5  # of the brain's voxels: what is brighter is white
FEW_LINES = 20
Size = tuple[int, int, int]


@dataclass(frozen=True)
class BratsSettings:
    """Settings of `remind data import brats`.

    Attributes
    ----------
    data
        Folder with a folder per patient, at any depth.
    out
        The new cohort.
    size
        (D, H, W) of the box that is cut out of each volume, in voxels of 1 mm.
    sites
        .csv with columns Subject_ID and Partition_ID, as FeTS publishes it: the hospital of each patient; None: none.
    """

    data: Path
    out: Path
    size: Size = (128, 128, 128)
    sites: Path | None = None


@dataclass(frozen=True)
class _Patient:
    name: str
    files: Mapping[str, Path]  # sequence, or MASK → file


def import_brats(settings: BratsSettings, progress: Progress = silent) -> Summary:
    """Write a cohort with one example per patient who has a mask and at least one sequence.

    Raises
    ------
    UserError
        There are no such folders, or files cannot be used; all are listed.
    """
    with cohort_folder(settings.out) as folder:
        found = _find(settings)
        patients = [one for one in found if MASK in one.files and len(one.files) > 1]
        if not patients:
            raise UserError(
                f"--data {settings.data}: no patient there has a sequence and a mask (a file that ends with "
                "_seg.nii.gz); name the folder of the training patients: the others have no masks"
            )
        site_of = _sites(settings, patients)
        for name in (*SEQUENCES, MASK):
            (folder / name).mkdir()
        problems: list[Problem] = []
        for number, one in enumerate(patients):
            if number % 50 == 0:
                progress(f"patient {number + 1} of {len(patients)}")
            problems += _write(one, folder, f"{number:06d}.npy", settings.size)
        if problems:
            raise several(f"--data {settings.data} cannot be imported", map(str, problems[:FEW_LINES]))
        return _declare(settings, folder, found, patients, site_of)


def _find(settings: BratsSettings) -> list[_Patient]:
    """Return the patients, sorted by name."""
    if not settings.data.is_dir():
        raise UserError(f"--data: there is no folder {settings.data}; name the folder that holds the patients' folders")
    found: dict[str, dict[str, Path]] = {}
    twice = []
    for path in sorted(settings.data.rglob("*.nii*")):
        suffix = next((suffix for suffix in SUFFIXES if path.name.endswith(suffix)), None)
        patient = path.parent.name
        if suffix is None or not path.name.startswith(patient):
            continue
        ending = path.name.removesuffix(suffix).removeprefix(patient).lstrip("_-").lower()
        part = MASK if ending == MASK else SPELLINGS.get(ending)
        if part is None:
            continue
        if part in found.setdefault(patient, {}):
            twice.append(f"{patient}: two files of {part}: {found[patient][part]} and {path}; keep one of them")
        found[patient][part] = path
    if twice:
        raise several(f"--data {settings.data} cannot be imported", twice[:FEW_LINES])
    return [_Patient(name, files) for name, files in sorted(found.items())]


def _sites(settings: BratsSettings, patients: list[_Patient]) -> dict[str, str]:
    """Return the hospital of each patient; empty without ``--sites``."""
    if settings.sites is None:
        return {}
    problems: list[Problem] = []
    if not settings.sites.is_file():
        raise UserError(f"--sites {settings.sites}: no such file; name the .csv with Subject_ID and Partition_ID")
    source = open_source(settings.sites, problems)
    if source is not None:
        for column in ("Subject_ID", "Partition_ID"):
            source.has(column, "--sites")
    if source is None or problems:
        raise several(f"--sites {settings.sites} cannot be read", map(str, problems))
    (id_R, ids), (site_R, names) = (source.texts(column) for column in ("Subject_ID", "Partition_ID"))
    known = {ids[i]: names[s] for i, s in zip(id_R.tolist(), site_R.tolist(), strict=True) if i >= 0 and s >= 0}
    if without := [one.name for one in patients if one.name not in known]:
        what = f"--sites {settings.sites}: {counted(len(without), 'patient')} without a hospital: {listed(without, 3)}"
        raise UserError(f"{what}; add a row for each, or leave --sites out")
    return known


def _write(patient: _Patient, folder: Path, file: str, size: Size) -> list[Problem]:
    """Write a patient's volumes and mask, cut by one box; return what is wrong with their files."""
    arrays: dict[str, NDArray[Any]] = {}
    problems = []
    for part, path in patient.files.items():
        try:
            with reading():
                arrays[part] = decode(path, None, stack=True).array
                if part == MASK:
                    arrays[part] = fit_mask(arrays[part], arrays[part].shape, NUMBERS, resize=False)
        except Unreadable as error:
            problems.append(Problem(path.name, error.what, error.remedy))
    if problems:
        return problems
    if len(shapes := {array.shape for array in arrays.values()}) > 1:
        what = f"its volumes have different sizes: {listed(sorted('×'.join(map(str, shape)) for shape in shapes))}"
        return [Problem(patient.name, what, "register them to one space, as the release does")]
    mask = np.where(arrays[MASK] == 3, ENHANCING, arrays[MASK]).astype(np.uint8)
    if (arrays[MASK] == 3).any() and (arrays[MASK] == 4).any():
        return [Problem(patient.name, "its mask has 3 and 4, which no release has together", "correct the mask")]
    brain = np.any([array != 0 for part, array in arrays.items() if part != MASK], axis=0)
    starts = box(brain, size)
    np.save(folder / MASK / file, cut(mask, starts, size), allow_pickle=False)
    for part, array in arrays.items():
        if part != MASK:
            np.save(folder / part / file, cut(grey(array), starts, size), allow_pickle=False)
    return []


def box(brain: NDArray[np.bool_], size: Size) -> tuple[int, int, int]:
    """Return where the box of this size begins whose middle is that of the brain; it may begin before 0."""
    starts = []
    for axis, side in enumerate(size):
        others = tuple(a for a in range(3) if a != axis)
        places = np.flatnonzero(brain.any(axis=others))
        low, high = (int(places[0]), int(places[-1]) + 1) if len(places) else (0, brain.shape[axis])
        starts.append((low + high - side) // 2)
    return starts[0], starts[1], starts[2]


def cut(array: NDArray[np.generic], starts: Size, size: Size) -> NDArray[np.generic]:
    """Return the box of an array (D, H, W); 0 where it is beyond the array."""
    whole = np.zeros(size, dtype=array.dtype)
    inside, of = [], []
    for start, side, length in zip(starts, size, array.shape, strict=True):
        first, last = max(start, 0), min(start + side, length)
        of.append(slice(first, max(last, first)))
        inside.append(slice(first - start, max(last, first) - start))
    whole[tuple(inside)] = array[tuple(of)]
    return whole


def grey(array: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return grey levels: 0 outside of the brain, 65535 at the 99.5th percentile of its voxels and above."""
    own = array[array > 0]
    white = float(np.percentile(own, PERCENTILE)) if own.size else 1.0
    levels: NDArray[np.uint16] = np.rint(np.clip(array / white, 0, 1) * WHITE).astype(np.uint16)
    return levels


def _declare(
    settings: BratsSettings, folder: Path, found: list[_Patient], patients: list[_Patient], site_of: Mapping[str, str]
) -> Summary:
    """Write the tables and cohort.toml."""
    files = [f"{number:06d}.npy" for number in range(len(patients))]
    columns = {
        "patient_id": [one.name for one in patients],
        "person": [_person(one.name) for one in patients],
        "mask": [f"{MASK}/{file}" for file in files],
    }
    columns |= {"site": [site_of[one.name] for one in patients]} if site_of else {}
    write_table(folder, "patients", columns)
    size = tuple(settings.size)
    modalities: dict[str, dict[str, object]] = {}
    for name in SEQUENCES:
        rows = [(one.name, f"{name}/{file}") for one, file in zip(patients, files, strict=True) if name in one.files]
        modalities[name] = {"kind": "volume", "size": size} | ({} if rows else {"absent": True})
        if rows:
            write_table(folder, name, {"patient_id": [row[0] for row in rows], "path": [row[1] for row in rows]})
    label = {"kind": "segmentation", "size": size, "regions": REGIONS}
    comments = ["Written by: remind data import brats."]
    write_declaration(folder, "brats", (), modalities, comments, label=label)
    return Summary(
        folder=settings.out,
        modalities=SEQUENCES,
        classes=("mask",),
        presence_Nm=np.array([[name in one.files for name in SEQUENCES] for one in patients], dtype=bool),
        label_N=np.zeros(len(patients), dtype=np.int64),
        persons=len(set(columns["person"])),
        left_out=(
            ("patients without a mask", sum(MASK not in one.files for one in found)),
            ("patients with a mask and no sequence", sum(set(one.files) == {MASK} for one in found)),
        ),
        remarks=(f"each volume is cut to {'×'.join(map(str, size))} voxels around the brain",),
    )


def _person(name: str) -> str:
    """Return the person: BraTS-GLI-00000-001 is the second visit of BraTS-GLI-00000."""
    parts = name.split("-")
    return "-".join(parts[:-1]) if len(parts) == 4 and parts[-1].isdecimal() else name
