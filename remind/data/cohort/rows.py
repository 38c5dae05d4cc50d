"""Data files and DataFrames of which only some rows are needed at a time: nothing here holds a whole file's cells.

Letters: R rows of a source.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from remind.data.cohort.csv_file import open_csv
from remind.data.cohort.csv_layout import Layout
from remind.data.cohort.problems import Problem
from remind.data.cohort.source_files import PANDAS_INDEX
from remind.data.cohort.tabular import Source, Spoiled

PIECE = 1 << 14  # rows of a .parquet that are read at a time
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class DataFile:
    """A table that is read piece by piece.

    Attributes
    ----------
    file
        Its name, for messages.
    columns
        In order.
    pieces
        Function that yields the rows, in order, as Arrow tables.
    layout
        Positions of a .csv's rows and cells.
    """

    file: str
    columns: tuple[str, ...]
    pieces: Callable[[], Iterator[Any]]
    layout: Layout | None = None

    def source(self, table: Any, rows_R: Integers, problems: list[Problem], spoiled: list[Spoiled]) -> Source:
        """Return some rows as readers take them; problems of a row go to `spoiled`."""
        return Source(self.file, table, problems, layout=self.layout, rows_R=rows_R, spoiled=spoiled)

    def empty(self) -> Any:
        """Return a table without rows."""
        return pa.table({name: pa.array([], pa.large_string()) for name in self.columns})

    def slices(self, size: int) -> Iterator[tuple[int, Any]]:
        """Yield all rows as tables of `size` rows, and the position of the first row of each."""
        start, held = 0, None
        for piece in self.pieces():
            held = piece if held is None else pa.concat_tables([held, piece])
            while len(held) >= size:
                yield start, held.slice(0, size)
                start, held = start + size, held.slice(size)
        if held is not None and len(held):
            yield start, held

    def texts_of(self, column: str) -> Iterator[tuple[int, Any, Integers, list[str]]]:
        """Yield each piece with the position of its first row, and a column's texts as `Source.texts` does."""
        start = 0
        for piece in self.pieces():
            codes_R, names = Source(self.file, piece.select([column]), [], spoiled=[]).texts(column)
            yield start, piece, codes_R, names
            start += len(piece)

    def rows_of(self, column: str, wanted: Collection[str]) -> tuple[Any, Integers]:
        """Return the rows whose `column` names one of the wanted patients, and their positions in the file."""
        tables, rows = [], []
        for start, piece, codes_R, names in self.texts_of(column):
            keep = np.array([*(name in wanted for name in names), False])[codes_R]
            if keep.any():
                tables.append(piece.filter(pa.array(keep)))
                rows.append(start + np.flatnonzero(keep))
        if not tables:
            return self.empty(), np.empty(0, dtype=np.int64)
        return pa.concat_tables(tables), np.concatenate(rows).astype(np.int64)


def open_file(path: Path, problems: list[Problem]) -> DataFile | None:
    """Open a .csv or .parquet; None, and a problem, if it cannot be read. Without rows it is in order."""
    try:
        if path.suffix.lower() == ".csv":
            file = open_csv(path, problems, even=True)
            return None if file is None else DataFile(path.name, tuple(file.names), file.batches, file.layout)
        with pa.parquet.ParquetFile(path) as opened:
            names = [str(name) for name in opened.schema_arrow.names]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two columns are named {repeated[0]!r}")
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        problems.append(Problem(path.name, f"cannot be read: {reason}", f"export it again as {path.suffix[1:]}"))
        return None
    columns = tuple(name for name in names if not name.startswith(PANDAS_INDEX))

    def pieces() -> Iterator[Any]:
        with pa.parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as opened:
            for batch in opened.iter_batches(PIECE, columns=list(columns)):
                yield pa.table(batch)

    return DataFile(path.name, columns, pieces)


def of_table(name: str, table: Any) -> DataFile:
    """Return an Arrow table in memory as a file."""
    return DataFile(name, tuple(table.column_names), lambda: iter([table] if len(table) else []))


def hashes(texts: Collection[str]) -> NDArray[np.uint64]:
    """Return a 64-bit hash of each text: eight bytes for each of millions of patients."""
    digests = b"".join(blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest() for text in texts)
    return np.frombuffer(digests, dtype=np.uint64)
