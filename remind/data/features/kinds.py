"""The features of each kind of modality; a kind of another package brings its own.

Letters: N patients, F columns.
"""

from zlib import crc32

import numpy as np

from remind.data.cohort.cohort import Cohort
from remind.data.cohort.kind import kind_of
from remind.data.cohort.kinds.codes import Codes, CodesSchema
from remind.data.cohort.kinds.pictures import ImageSchema, VolumeSchema
from remind.data.cohort.kinds.series import Series
from remind.data.cohort.kinds.series_schema import SeriesSchema
from remind.data.cohort.kinds.table import Table, TableSchema
from remind.data.cohort.kinds.text import TextSchema
from remind.data.cohort.schema import ModalitySchema
from remind.data.features import pictures, series, words
from remind.data.features.columns import Columns, Floats

CODE_BUCKETS = 2**9  # columns of codes where the schema has no vocabulary, or a longer one


def columns_of(schema: ModalitySchema) -> Columns:
    """Return what the columns of a modality are, from its schema alone."""
    match schema:
        case TableSchema():
            levels = tuple(len(schema.categories.get(column, ())) for column in schema.columns)
            return Columns(tuple(f"{schema.name}: {column}" for column in schema.columns), levels)
        case SeriesSchema():
            return Columns.numeric(series.names(schema))
        case CodesSchema():
            return Columns.numeric(f"{schema.name}: {name}" for name in ("number of codes", *_codes(schema)))
        case TextSchema():
            return Columns.numeric(
                f"{schema.name}: {name}" for name in ("characters", "words", *map(str, range(words.BUCKETS)))
            )
        case ImageSchema() | VolumeSchema():
            return Columns.numeric(f"{schema.name}: {statistic}" for statistic in pictures.STATISTICS)
        case _:
            return Columns.numeric(f"{schema.name}: {name}" for name in kind_of(schema).summary_names(schema))


def values_of(schema: ModalitySchema, cohort: Cohort, idf_W: Floats | None) -> Floats:
    """Compute the features of a modality, (N, F); `idf_W` weighs the words of notes.

    Raises
    ------
    UserError
        A file can no longer be read.
    """
    contents = cohort.modalities[schema.name]
    match schema:
        case TableSchema():
            assert isinstance(contents, Table)
            return contents.values_NF.astype(np.float64)
        case SeriesSchema():
            assert isinstance(contents, Series)
            return series.summary(contents, schema)
        case CodesSchema():
            assert isinstance(contents, Codes)
            return _code_counts(contents, schema)
        case TextSchema():
            return _notes(cohort, schema.name, idf_W)
        case ImageSchema() | VolumeSchema():
            return pictures.intensities(cohort, schema.name)
        case _:
            return np.asarray(kind_of(schema).summary(schema, contents), dtype=np.float64)


def _codes(schema: CodesSchema) -> tuple[str, ...]:
    few = 0 < len(schema.vocabulary) <= CODE_BUCKETS
    return schema.vocabulary if few else tuple(f"bucket {i}" for i in range(CODE_BUCKETS))


def _code_counts(codes: Codes, schema: CodesSchema) -> Floats:
    """Return the number of codes, then the count of each, or of each bucket of hashed codes and prefixes."""
    names, patients = _codes(schema), len(codes.offsets_N1) - 1
    place = {name: i for i, name in enumerate(names)} if names == schema.vocabulary else None
    targets = [_places(name, schema, place) for name in codes.names]
    patient_O = np.repeat(np.arange(patients), np.diff(codes.offsets_N1))
    values_NF = np.zeros((patients, 1 + len(names)))
    values_NF[:, 0] = np.diff(codes.offsets_N1)
    for patient, code in zip(patient_O.tolist(), codes.code_O.tolist(), strict=True):
        for column in targets[code]:
            values_NF[patient, 1 + column] += 1
    values_NF[~codes.present()] = np.nan
    return values_NF


def _places(name: str, schema: CodesSchema, place: dict[str, int] | None) -> list[int]:
    words = dict.fromkeys((name, *(name[:length] for length in schema.prefixes)))
    if place is not None:
        return [place[word] for word in words if word in place]
    return [crc32(word.encode()) % CODE_BUCKETS for word in words]


def _notes(cohort: Cohort, name: str, idf_W: Floats | None) -> Floats:
    there_N, texts = words.notes(cohort, name)
    values_NF = np.full((len(cohort), 2 + words.BUCKETS), np.nan)
    lengths = np.array([[len(text), len(text.split())] for text in texts], dtype=np.float64).reshape(-1, 2)
    values_NF[there_N] = np.concatenate([lengths, words.hashed(texts, idf_W)], axis=1)
    return values_NF
