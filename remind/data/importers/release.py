"""Files of a published release: .csv or .csv.gz, from which a few columns are read block by block.

The largest have hundreds of millions of rows, so nothing here holds more than a few blocks of a file.
"""

import csv
import gzip
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv

from remind.data.cohort.problems import Problem, suggest
from remind.data.cohort.text import SPELLED_MISSING
from remind.data.importers.watch import Watch
from remind.errors import UserError, several

BLOCK = 1 << 25  # bytes that are parsed at a time; no row may be longer
REPORT_EVERY = 20_000_000  # rows between two lines of progress
SUFFIXES = (".csv", ".csv.gz")

WHOLE, NUMBER, TEXT, TIME = pa.int64(), pa.float64(), pa.string(), pa.timestamp("s")
Progress = Callable[[str], None]


def silent(_: str) -> None:
    """Report no progress."""


@dataclass(frozen=True)
class ReleaseFile:
    """A file whose header has been read.

    Attributes
    ----------
    path
        Path of the file.
    names
        All its columns.
    types
        Arrow type of each column that is read.
    progress
        Called from time to time with the progress of the reading.
    """

    path: Path
    names: tuple[str, ...]
    types: Mapping[str, Any]
    progress: Progress = silent

    def batches(self) -> Iterator[Any]:
        """Yield Arrow record batches of the columns in `types`, in the order of the file.

        Raises
        ------
        UserError
            The file is truncated, a row has too many cells, a quotation mark is not closed where it should be, or a
            cell has not the type of its column.
        """
        read = pa.csv.ReadOptions(column_names=self.names, skip_rows=1, block_size=BLOCK)
        parse = pa.csv.ParseOptions(newlines_in_values=True)
        convert = pa.csv.ConvertOptions(
            column_types=dict(self.types),
            include_columns=list(self.types),
            strings_can_be_null=True,
            null_values=SPELLED_MISSING,
        )
        self.progress(f"reading {self.path.name}")
        rows = reported = 0
        try:
            watch = Watch(pa.input_stream(str(self.path)))
            for batch in pa.csv.open_csv(pa.PythonFile(watch, mode="r"), read, parse, convert):
                watch.check(self.path)
                rows += batch.num_rows
                if rows - reported >= REPORT_EVERY:
                    self.progress(f"  {rows // 1_000_000} million rows")
                    reported = rows
                yield batch
            watch.check(self.path)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise UserError(f"{self.path}: cannot be read: {self._in_words(error)}; {_WHOLE_FILE}") from None

    def frame(self) -> pd.DataFrame:
        """Read all rows of the columns in `types`; only for the small files of a release."""
        schema = pa.schema(list(self.types.items()))
        table = pa.Table.from_batches(list(self.batches()), schema)
        found: pd.DataFrame = table.to_pandas()
        return found

    def _in_words(self, error: Exception) -> str:
        """Rewrite Arrow's message with the column's name in place of its number."""
        message = (str(error) or type(error).__name__).splitlines()[0]
        message = re.sub(r"(Expected \d+ columns, got \d+).*", r"\1", message)  # the rest quotes a patient's row
        return re.sub(r"column #(\d+)", lambda found: f"column {self.names[int(found.group(1))]!r}", message)


_WHOLE_FILE = "use the file as it was released (gzip -t says whether a .gz is whole)"


def find_file(folder: Path, stem: str, problems: list[Problem]) -> Path | None:
    """Find ``<stem>.csv`` or ``<stem>.csv.gz`` in a folder of the release.

    None, and a problem, unless exactly one exists.
    """
    candidates = [folder / (stem + suffix) for suffix in SUFFIXES]
    found = [path for path in candidates if path.is_file()]
    if len(found) == 1:
        return found[0]
    names = " or ".join(path.name for path in candidates)
    if found:
        problems.append(Problem(names, f"both are in {folder}", "keep one of them"))
    else:
        problems.append(Problem(names, f"no such file in {folder}", "name the folder of the release that holds it"))
    return None


def open_file(
    path: Path | None, types: Mapping[str, Any], problems: list[Problem], progress: Progress = silent
) -> ReleaseFile | None:
    """Open a file with the columns in `types`; None, and one problem per missing column, if it is not such a file."""
    if path is None:
        return None
    try:
        names = _header(path)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be read: {error}"
        problems.append(Problem(str(path), reason, _WHOLE_FILE))
        return None
    if repeated := sorted({name for name in names if names.count(name) > 1} & types.keys()):
        problems += [Problem(path.name, "two columns have this name", "keep one", column=name) for name in repeated]
        return None
    missing = [name for name in types if name not in names]
    problems += [Problem(path.name, "no such column", suggest(name, names), column=name) for name in missing]
    return None if missing else ReleaseFile(path, tuple(names), types, progress)


def stop_at(problems: Sequence[Problem], release: str) -> None:
    """Raise one UserError for all `problems`, if there are any."""
    if problems:
        raise several(f"these are not the files of {release} that docs/importing.md describes", map(str, problems))


def _header(path: Path) -> list[str]:
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    with opened(path, "rt", encoding="utf-8-sig", newline="") as stream:
        return next(csv.reader(stream), [])
