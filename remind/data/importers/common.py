"""Shared by all importers: the cohort's folder, its cohort.toml, and the summary at the end."""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from remind import groups
from remind.config_toml import literal
from remind.data.cohort.declaration import FILE_NAME
from remind.data.cohort.problems import counted
from remind.errors import UserError


@dataclass(frozen=True)
class Summary:
    """What an import wrote. Letters: N examples, m modalities.

    Attributes
    ----------
    folder
        The new cohort.
    modalities, classes
        Their names, in order.
    presence_Nm, label_N
        Modalities and class of the examples that were written.
    persons
        Number of persons in these examples.
    left_out
        What was left out, and how often, in the order of the rules.
    remarks
        Other information for the user.
    """

    folder: Path
    modalities: tuple[str, ...]
    classes: tuple[str, ...]
    presence_Nm: NDArray[np.bool_]
    label_N: NDArray[np.int64]
    persons: int
    left_out: tuple[tuple[str, int], ...] = ()
    remarks: tuple[str, ...] = ()

    def to_text(self) -> str:
        """Format the summary for people. It contains counts of single patients: protect it as you protect the data."""
        labels = np.bincount(self.label_N, minlength=len(self.classes)).tolist()
        lines = [
            f"wrote {counted(len(self.label_N), 'example')} of {counted(self.persons, 'person')} to {self.folder}",
            "labels: " + ", ".join(f"{name} {n}" for name, n in zip(self.classes, labels, strict=True)),
            "groups:",
        ]
        count_of = groups.counts(groups.masks(self.presence_Nm))
        for group in sorted(count_of, key=lambda g: (-count_of[g], g)):
            share = count_of[group] / len(self.label_N)
            lines.append(f"  {count_of[group]:>8}  {share:.3f}  {groups.name(group, self.modalities)}")
        lines.append("left out:")
        lines += [f"  {n:>8}  {what}" for what, n in self.left_out if n] or ["  nothing"]
        lines += [f"note: {remark}" for remark in self.remarks]
        return "\n".join([*lines, f"look at it with: remind data check {self.folder}", ""])


@contextmanager
def cohort_folder(out: Path) -> Iterator[Path]:
    """Yield a folder to write into. On success it becomes `out`; on failure it is removed.

    Raises
    ------
    UserError
        `out` exists and is not an empty folder, or cannot be written.
    """
    out = out.absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out}: not a new or empty folder; give one, so that no files of an older cohort remain")
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        yield partial
        if out.exists():
            out.rmdir()
        partial.rename(out)
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written: {error.strerror or error}; name another folder") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_table(folder: Path, name: str, columns: Mapping[str, Any]) -> None:
    """Write ``<name>.parquet`` in `folder`."""
    pa.parquet.write_table(pa.table(dict(columns)), folder / f"{name}.parquet", compression="zstd")


def write_declaration(
    folder: Path,
    name: str,
    classes: Sequence[str],
    modalities: Mapping[str, Mapping[str, Any]],
    comments: Sequence[str] = (),
    label: Mapping[str, Any] | None = None,
) -> None:
    """Write the cohort.toml of a cohort whose column ``person`` identifies the persons.

    Parameters
    ----------
    label
        Fields of the section [label]; None: that of these classes.
    """
    own = {"classes": classes} if label is None else label
    lines = [*(f"# {comment}" for comment in comments), f"name = {_toml(name)}", ""]
    lines += ["[patients]", 'patient = "person"', "", "[label]"]
    lines += [f"{key} = {_toml(value)}" for key, value in own.items()]
    for modality, fields in modalities.items():
        lines += ["", f"[modalities.{modality}]", *(f"{key} = {_toml(value)}" for key, value in fields.items())]
    (folder / FILE_NAME).write_text("\n".join([*lines, ""]), encoding="utf-8")


def _toml(value: Any) -> str:
    """Format a scalar, a sequence, or a table of them as TOML."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{literal(key)} = {_toml(v)}" for key, v in value.items()) + " }"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return literal(value)


def observations(parts: Sequence[pd.DataFrame]) -> dict[str, Any]:
    """Return the columns of a series' file from tables of ``id``, ``time`` in hours, ``item`` and ``value``."""
    whole = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["id", "time", "item", "value"])
    whole = whole.sort_values(["id", "time", "item"], kind="stable")
    return {
        "patient_id": whole["id"].astype("int64").tolist(),
        "time": whole["time"].astype("float64").tolist(),
        "item": whole["item"].tolist(),
        "value": whole["value"].astype("float64").tolist(),
    }


def cells(values: Iterable[Any]) -> list[Any]:
    """Return the values of a column, None where there is none."""
    return [None if pd.isna(value) else value for value in values]
