"""Kinds with one file per patient, which is opened when a batch needs it. Letters: R rows, N patients, P in a batch."""

import shutil
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator
from typing_extensions import override

from remind.data.cohort.contents import Contents, Integers, OnePerPatient
from remind.data.cohort.kind import Columns, Kind, SchemaT, Text, ToTensor
from remind.data.cohort.problems import Problem
from remind.data.cohort.sections import Broken, Name, Section, no_file_where_absent
from remind.data.cohort.tabular import Source
from remind.data.cohort.wanted import Wanted, one_row_each, patient_rows, read_paths
from remind.data.files import Sight
from remind.errors import UserError

NOTHING_SEEN = Sight((0, 0, 0), flat=False)  # of a file without pixels


class PathSection(Section):
    """Section of a modality whose file is a table of paths.

    Attributes
    ----------
    path
        The column of paths; relative ones start from the cohort's folder.
    broken
        Whether a file that cannot be used is an error, or is left out.
    """

    path: Name = "path"
    broken: Broken = "error"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        no_file_where_absent(self)
        return self


SectionT = TypeVar("SectionT", bound=Section)
PathSectionT = TypeVar("PathSectionT", bound=PathSection)
FilesT = TypeVar("FilesT", bound=OnePerPatient)


class FileKind(Kind[SectionT, SchemaT, FilesT]):
    """A kind with one file per patient, opened when a batch needs it; the same data may also be in memory.

    Attributes
    ----------
    pictures
        Whether arrays are pictures (channels, …) in [0, 1], which light augmentation may change while encoders train.
    """

    contents_base: ClassVar[type[Contents]] = OnePerPatient
    pictures: ClassVar[bool] = False

    @abstractmethod
    def examine(self, schema: SchemaT, contents: FilesT, path: Path) -> Sight:
        """Open a file as `load` does and return what is seen; `NOTHING_SEEN` if it has no pixels.

        Raises
        ------
        Unreadable
            The file cannot be used.
        """

    @abstractmethod
    def load(self, schema: SchemaT, contents: FilesT, source: Any) -> NDArray[np.float32] | str:
        """Return one patient's array, of the shape that `shape` gives, or text.

        Raises
        ------
        Unreadable
            The file has changed since it was examined.
        """

    @abstractmethod
    def shape(self, schema: SchemaT) -> tuple[int, ...] | None:
        """Return the shape of every patient's array; None if `load` returns text."""

    def gathered(self, loaded: Any) -> Any:
        """Return the encoder's input for the loaded patients: a tensor (P, …), or a tuple of P texts."""
        return loaded

    @override
    def inputs(self, schema: SchemaT, contents: FilesT, tensor: ToTensor) -> Callable[[Integers], Any]:
        """Return what opens the patients' files when it is asked; batches read ahead instead, in other processes."""

        def of(position_P: Integers) -> Any:
            loaded, shape = [self.load(schema, contents, contents.source_N[i]) for i in position_P], self.shape(schema)
            if shape is None:
                return self.gathered(tuple(map(str, loaded)))
            return self.gathered(tensor(np.stack(loaded) if loaded else np.zeros((0, *shape), dtype=np.float32)))

        return of


class PathKind(FileKind[PathSectionT, SchemaT, FilesT]):
    """A kind whose file in the cohort is a table of paths."""

    @abstractmethod
    def declared(self, name: str, section: PathSectionT) -> SchemaT:
        """Return the schema that a section declares."""

    @abstractmethod
    def of_sources(self, source_N: NDArray[np.object_], section: PathSectionT) -> FilesT:
        """Return the contents with these paths, which a section declares."""

    @abstractmethod
    def save(self, array: Any, stem: Path) -> Path:
        """Write what `load` takes if it is in memory, and return the file: `stem` and a suffix."""

    @override
    def read(self, source: Source, wanted: Wanted[PathSectionT]) -> tuple[SchemaT, FilesT] | None:
        """Read the paths of the patients' files without opening them. The examination reports missing files."""
        patient_R = patient_rows(source, wanted)
        path_R = read_paths(source, wanted, wanted.section.path)
        if patient_R is None or wanted.position is None or path_R is None:
            return None
        known_R = one_row_each(source, wanted, patient_R)
        source_N = np.full(len(wanted.position), None, dtype=object)
        source_N[patient_R[known_R]] = path_R[known_R]
        return self.declared(wanted.name, wanted.section), self.of_sources(source_N, wanted.section)

    @override
    def absent(self, name: str, section: PathSectionT, n: int, problems: list[Problem]) -> tuple[SchemaT, FilesT]:
        return self.declared(name, section), self.of_sources(np.full(n, None, dtype=object), section)

    @override
    def columns(self, folder: Path, patient_id_N: Text, schema: SchemaT, contents: FilesT) -> Columns:
        """Copy the files, so that the cohort does not depend on other folders; their names are numbers."""
        (folder / schema.name).mkdir()
        having = np.flatnonzero(contents.present())
        paths = [self._written(contents.source_N[i], folder / schema.name / f"{i:06d}") for i in having]
        return {
            "patient_id": patient_id_N[having].tolist(),
            "path": [path.relative_to(folder).as_posix() for path in paths],
        }

    def _written(self, source: Any, stem: Path) -> Path:
        if not isinstance(source, Path):
            return self.save(source, stem)
        if not source.exists():
            raise UserError(f"{source}: no such file; it was there when the cohort was read, put it back")
        path = stem.with_name(stem.name + "".join(source.suffixes[-2:]))  # the suffix .nii.gz has two parts
        copy = shutil.copytree if source.is_dir() else shutil.copyfile
        copy(source, path)
        return path
