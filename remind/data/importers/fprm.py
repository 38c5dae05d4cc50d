"""FPRM: fundus photograph, blood-flow video, oxygen map, table; grade of health deterioration (docs/importing.md).

The layout of the real release was not available. The importer reads one index with a row per example: paths of the
three pictures, and the columns of the table. Every column's name is an option.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remind.data.cohort.problems import Problem, listed
from remind.data.cohort.row_counters import row_numbers
from remind.data.cohort.source_files import SUFFIXES, open_source
from remind.data.cohort.tabular import Source
from remind.data.cohort.text import Names, declared_text, number_of
from remind.data.importers.common import Summary, cohort_folder, write_declaration, write_table
from remind.data.importers.release import Progress, silent
from remind.errors import UserError, several

PICTURES: dict[str, dict[str, Any]] = {
    "fundus": {"kind": "image", "size": (224, 224), "channels": 3},
    "flow": {"kind": "video", "size": (16, 224, 224), "channels": 3, "resize": True},
    "oxygen": {"kind": "image", "size": (224, 224), "channels": 3},
}
ORDER = ("fundus", "flow", "oxygen", "table")  # M1 to M4 of the paper


@dataclass(frozen=True)
class FprmSettings:
    """Settings of `remind data import fprm`.

    Attributes
    ----------
    index
        .csv or .parquet, one row per example.
    data
        Folder from which the paths in the index start.
    out
        The new cohort.
    id, person, label
        Columns of the example, the person and the grade.
    fundus, flow, oxygen
        Columns with the paths; an empty cell means that the example has no such picture.
    exclude
        Columns that are not features.
    categories
        Feature columns that hold texts.
    classes
        The grades in order; empty: those in the index, sorted.
    """

    index: Path
    data: Path
    out: Path
    id: str = "id"
    person: str = "patient_id"
    label: str = "grade"
    fundus: str = "fundus"
    flow: str = "flow"
    oxygen: str = "oxygen"
    exclude: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()

    @property
    def pictures(self) -> dict[str, str]:
        """Return the column of each picture, by modality."""
        return {"fundus": self.fundus, "flow": self.flow, "oxygen": self.oxygen}


@dataclass(frozen=True)
class Index:
    """The parsed index of R rows.

    Attributes
    ----------
    id_R, person_R
        Example and person; None = empty, which is a problem.
    label_R
        Class, −1 = none.
    classes
        Names of the classes, in order.
    cells
        Cells of each feature column, None = empty.
    levels
        Levels of the categorical columns.
    files
        Paths of each kind of picture, None = none.
    """

    id_R: list[str | None]
    person_R: list[str | None]
    label_R: NDArray[np.int64]
    classes: tuple[str, ...]
    cells: dict[str, list[Any]]
    levels: dict[str, tuple[str, ...]]
    files: dict[str, list[str | None]]

    def presence(self) -> NDArray[np.bool_]:
        """Return which row has which modality of `ORDER`, (R, 4)."""
        columns = [[path is not None for path in self.files[name]] for name in ORDER if name in self.files]
        table = np.zeros(len(self.id_R), dtype=bool)
        for cells in self.cells.values():
            table |= np.array([cell is not None for cell in cells])
        return np.column_stack([*columns, table])


def import_fprm(settings: FprmSettings, progress: Progress = silent) -> Summary:
    """Write a cohort with one example per row of the index. The pictures stay in their folder.

    Raises
    ------
    UserError
        The index has problems (all are listed), or pictures do not exist.
    """
    with cohort_folder(settings.out) as folder:
        progress(f"reading {settings.index.name}")
        index = _read(settings)
        presence_Rm = index.presence()
        labelled_R = index.label_R >= 0
        keep_R = labelled_R & presence_Rm.any(axis=1)
        if not keep_R.any():
            raise UserError(f"{settings.index}: no row has a label and something to learn from; check the columns")
        rows = np.flatnonzero(keep_R).tolist()
        people = [index.person_R[row] for row in rows]
        label_N = index.label_R[keep_R]
        columns = {
            "patient_id": [index.id_R[row] for row in rows],
            "person": people,
            "label": [index.classes[label] for label in label_N],
        }
        write_table(folder, "patients", columns)
        modalities = _write_modalities(folder, index, presence_Rm & keep_R[:, None])
        comments = ["Written by: remind data import fprm. The layout was not checked against the real release."]
        write_declaration(folder, "fprm", index.classes, modalities, comments)
        features = listed(index.cells) or "none"
        return Summary(
            folder=settings.out,
            modalities=ORDER,
            classes=index.classes,
            presence_Nm=presence_Rm[keep_R],
            label_N=label_N,
            persons=len(set(people)),
            left_out=(
                ("rows without a label", int((~labelled_R).sum())),
                ("rows with neither picture nor table", int((labelled_R & ~keep_R).sum())),
            ),
            remarks=(f"columns of the table ({len(index.cells)}): {features}",),
        )


def _read(settings: FprmSettings) -> Index:
    """Read the index, or raise a UserError that lists everything that is wrong with it."""
    problems: list[Problem] = []
    index = None
    if (source := _open(settings, problems)) is not None:
        used = {settings.id, settings.person, settings.label, *settings.pictures.values(), *settings.exclude}
        features = tuple(name for name in source.columns if name not in {*used, *row_numbers(source)})
        source.check_swallowed(settings.id, [text for text in _texts(source, settings.id) if text])
        label_R, classes = _labels(source, settings)
        cells, levels = _features(source, settings, features)
        index = Index(
            id_R=_texts(source, settings.id),
            person_R=_texts(source, settings.person),
            label_R=label_R,
            classes=classes,
            cells=cells,
            levels=levels,
            files={name: _files(source, settings, column) for name, column in settings.pictures.items()},
        )
        _check_ids(source, settings, index)
    if index is None or problems:
        raise several(f"{settings.index} cannot be imported", map(str, problems))
    return index


def _open(settings: FprmSettings, problems: list[Problem]) -> Source | None:
    """Open the index with all its columns, and find the folder; None if anything is missing."""
    index = settings.index
    if not settings.data.is_dir():
        problems.append(
            Problem("--data", f"there is no folder {settings.data}", "name the folder the paths start from")
        )
    if not index.is_file() or index.suffix.lower() not in SUFFIXES:
        problems.append(Problem(index.name, "no such .csv or .parquet", "name the index with --index"))
        return None
    source = open_source(index, problems)
    if source is None:
        return None
    options = {"--id": settings.id, "--person": settings.person, "--label": settings.label}
    options |= {f"--{name}": column for name, column in settings.pictures.items()}
    named = [*options.items(), *(("--exclude", c) for c in settings.exclude)]
    named += [("--categories", c) for c in settings.categories]
    for option, column in named:
        if column not in source.columns:
            source.report("no such column", f"say with {option} which one it is ({listed(source.columns)})", column)
    columns = [column for _, column in named]
    for column in sorted({c for c in columns if columns.count(c) > 1}):
        source.report("named by two options", "name each column once", column)
    return None if problems else source


def _texts(source: Source, column: str) -> list[str | None]:
    codes_R, names = source.texts(column)
    return [names[code] if code >= 0 else None for code in codes_R]


def _check_ids(source: Source, settings: FprmSettings, index: Index) -> None:
    for column, texts in ((settings.id, index.id_R), (settings.person, index.person_R)):
        empty_R = np.array([text is None for text in texts])
        if empty_R.any():
            source.report("empty", "fill it in for every row", column, empty_R)
    again_R = np.ones(len(index.id_R), dtype=bool)
    again_R[list({text: row for row, text in reversed(list(enumerate(index.id_R)))}.values())] = False
    again_R &= np.array([text is not None for text in index.id_R])
    if again_R.any():
        source.report("stands in more than one row", "give every example an id of its own", settings.id, again_R)


def _labels(source: Source, settings: FprmSettings) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the class of each row, (R,), −1 = none; and the classes."""
    codes_R, names = source.texts(settings.label, Names(settings.classes))
    classes = tuple(declared_text(name) for name in settings.classes) or tuple(sorted(names, key=_rank))
    if strangers := [name for name in names if name not in classes]:
        bad_R = np.array([*(name in strangers for name in names), False])[codes_R]
        source.report("not one of --classes", f"use {listed(classes)}", settings.label, bad_R)
    if len(classes) < 2 or len(set(classes)) < len(classes):
        source.report("the label needs two classes or more, all different", "name them with --classes", settings.label)
    code = {name: i for i, name in enumerate(classes)}
    label_R = np.array([*(code.get(name, -1) for name in names), -1], dtype=np.int64)[codes_R]
    return label_R, classes


def _rank(name: str) -> tuple[bool, float, str]:
    """Sort numbers by size, then texts alphabetically."""
    number = number_of(name)
    return number is None, number or 0.0, name


def _features(
    source: Source, settings: FprmSettings, features: tuple[str, ...]
) -> tuple[dict[str, list[Any]], dict[str, tuple[str, ...]]]:
    """Return the cells of each feature column, None = empty, and the levels of the categorical ones."""
    values: dict[str, list[Any]] = {}
    levels: dict[str, tuple[str, ...]] = {}
    for name in features:
        if name in settings.categories:
            codes_R, texts = source.texts(name)
            levels[name] = tuple(sorted(texts, key=_rank))
            if not texts:
                source.report("has no values", "leave it out with --exclude", name)
            values[name] = [texts[code] if code >= 0 else None for code in codes_R]
        else:
            remedy = "; or name the column with --categories or --exclude"
            values[name] = [None if np.isnan(v) else v for v in source.numbers(name, remedy).tolist()]
    return values, levels


def _files(source: Source, settings: FprmSettings, column: str) -> list[str | None]:
    """Return the path of each row's picture, None = no picture. A path that does not exist is a problem."""
    root = settings.data.resolve()
    paths = [None if text is None else root / text for text in _texts(source, column)]
    lost_R = np.array([path is not None and not path.exists() for path in paths])
    if lost_R.any():
        remedy = "check --data, fetch the file, or empty the cell if the picture was never taken"
        source.report(f"no such file in {root}", remedy, column, lost_R)
    return [None if path is None else str(path) for path in paths]


def _write_modalities(folder: Path, index: Index, has_Rm: NDArray[np.bool_]) -> dict[str, dict[str, Any]]:
    """Write one .parquet per modality that any example has; return the modalities' sections of cohort.toml."""
    modalities: dict[str, dict[str, Any]] = {}
    for name, has_R in zip(ORDER, has_Rm.T, strict=True):
        if name in index.files:
            cells, fields = {"path": index.files[name]}, dict(PICTURES[name])
        elif index.cells:
            cells, fields = index.cells, {"kind": "table", "columns": tuple(index.cells)}
            fields |= {"categories": index.levels} if index.levels else {}
        else:
            continue  # the index has no feature columns
        rows = np.flatnonzero(has_R).tolist()
        if rows:
            columns = {column: [values[row] for row in rows] for column, values in cells.items()}
            write_table(folder, name, {"patient_id": [index.id_R[row] for row in rows], **columns})
        else:
            fields["absent"] = True
        modalities[name] = fields
    return modalities
