"""Find and open the data files of a cohort: .csv and .parquet."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from remind.data.cohort.csv_file import read_csv
from remind.data.cohort.problems import Problem, listed, suggest
from remind.data.cohort.tabular import Source

SUFFIXES = (".parquet", ".csv")
PANDAS_INDEX = "__index_level_"  # pandas writes this name into a .parquet together with its index


_IN_PARTS = (
    "is a folder of parts, as Spark and Dask write it, not a file",
    "write one file: pandas.read_parquet(folder).to_parquet(file), or coalesce(1) in Spark",
)


def find_file(folder: Path, stem: str, file: str | None, field: str, problems: list[Problem]) -> Path | None:
    """Find the file of a section of cohort.toml: the one it names, else ``<stem>.parquet`` or ``<stem>.csv``."""
    if file is not None:
        path = folder / file
        if path.is_file() and path.suffix.lower() in SUFFIXES:
            return path
        if path.is_file():
            problems.append(Problem(file, f"neither {' nor '.join(SUFFIXES)}", "convert it to one of them"))
        elif path.is_dir():
            problems.append(Problem(file, *_IN_PARTS))
        else:
            beside = suggest(file, _data_files(folder))
            problems.append(
                Problem(file, f"no such file in {folder.resolve()}", f"{beside} ({field}.file in cohort.toml)")
            )
        return None
    found = [folder / (stem + suffix) for suffix in SUFFIXES if (folder / (stem + suffix)).is_file()]
    if len(found) == 1:
        return found[0]
    names = " or ".join(stem + suffix for suffix in SUFFIXES)
    what = "two files could be meant" if found else f"no such file in {folder.resolve()}"
    others = sorted(p.name for p in folder.iterdir() if p.name.lower().startswith(f"{stem.lower()}."))
    parts = [name for name in others if (folder / name).is_dir() and Path(name).suffix.lower() in SUFFIXES]
    if parts and not found:
        names, (what, remedy) = parts[0], _IN_PARTS
    elif others and not found:
        remedy = f"there is {listed(others)}: save it as {names}, not compressed"
    else:
        remedy = f"name it with {field}.file; {suggest(stem, _data_files(folder))}"
    problems.append(Problem(names, what, remedy))
    return None


def open_source(
    path: Path, problems: list[Problem], remarks: list[str] | None = None, if_empty: str = "add rows"
) -> Source | None:
    """Open a .csv or .parquet; None, and a problem, if it cannot be read or has no rows, with the remedy `if_empty`."""
    layout = None
    try:
        if path.suffix.lower() == ".csv":
            if (read := read_csv(path, problems)) is None:
                return None
            table, layout = read
        else:
            table = _read_parquet(path)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        problems.append(Problem(path.name, f"cannot be read: {reason}", f"export it again as {path.suffix[1:]}"))
        return None
    source = Source(path.name, table, problems, [] if remarks is None else remarks, layout)
    if not len(source):
        source.report("has no rows", if_empty)
        return None
    return source


def _data_files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)


def _read_parquet(path: Path) -> Any:
    with pa.parquet.ParquetFile(path) as file:
        names = [str(n) for n in file.schema_arrow.names]
        if repeated := sorted({n for n in names if names.count(n) > 1}):
            raise ValueError(f"two columns are named {repeated[0]!r}")
        table = file.read()
    return table.select([n for n in names if not n.startswith(PANDAS_INDEX)])
