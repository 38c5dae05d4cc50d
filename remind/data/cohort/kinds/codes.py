"""Codes: one row per patient and code. Letters: R rows, N patients, O codes of all patients."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, model_validator
from typing_extensions import override

from remind.data.cohort.contents import Contents, Integers, Mask, ragged_hide, ragged_join, ragged_rows, ragged_take
from remind.data.cohort.kind import Columns, Floats, Kind, Members, Text, ToTensor, register
from remind.data.cohort.modality_schema import ModalitySchema
from remind.data.cohort.problems import Problem, listed
from remind.data.cohort.sections import Name, Scalar, Section, no_file_where_absent, without_repeats
from remind.data.cohort.suspicious_texts import warn_of_codes
from remind.data.cohort.tabular import Source
from remind.data.cohort.text import Names, declared_text
from remind.data.cohort.wanted import Wanted, missing_words, patient_rows, placeholders

if TYPE_CHECKING:
    from torch import Tensor


class CodesSection(Section):
    """Diagnoses, procedures, drugs: one row per patient and code."""

    kind: Literal["codes"]
    code: Name = "code"
    vocabulary: Annotated[tuple[Scalar, ...], Field(min_length=1)] | None = None
    prefixes: tuple[Annotated[int, Field(ge=1, le=20)], ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        no_file_where_absent(self)
        without_repeats("vocabulary", tuple(declared_text(v) for v in self.vocabulary or ()))
        if self.vocabulary is not None and self.prefixes:
            raise ValueError("prefixes are for codes without a vocabulary; list the prefixes in it instead")
        return self


class CodesSchema(ModalitySchema):
    """A modality with a set of codes per patient.

    Attributes
    ----------
    vocabulary
        The codes, in order. If empty, any code is accepted and its hash identifies it.
    prefixes
        Lengths: the first so many characters of a code also count as a code (I21 of I21.4).
    """

    kind: Literal["codes"] = "codes"
    vocabulary: tuple[str, ...] = ()
    prefixes: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Codes(Contents):
    """Codes: patient i has ``offsets_N1[i] : offsets_N1[i + 1]``, each code once, sorted by name.

    Attributes
    ----------
    code_O
        int64, index into `names`.
    names
        The codes as text.
    """

    offsets_N1: Integers
    code_O: Integers
    names: tuple[str, ...]

    @override
    def take(self, index: NDArray[Any]) -> "Codes":
        offsets_N1, source_O = ragged_take(self.offsets_N1, index)
        return Codes(offsets_N1, self.code_O[source_O], self.names)

    @override
    def hide(self, hidden_N: Mask) -> "Codes":
        offsets_N1, keep_O = ragged_hide(self.offsets_N1, hidden_N)
        return Codes(offsets_N1, self.code_O[keep_O], self.names)

    def present(self) -> Mask:
        """Return which patients have a code, (N,)."""
        return np.diff(self.offsets_N1) > 0

    def joined(self, others: Sequence["Codes"]) -> "Codes":
        """Return these patients followed by those of others; a part may have codes that the others do not have."""
        parts = (self, *others)
        names = tuple(dict.fromkeys(name for part in parts for name in part.names))
        index = {name: i for i, name in enumerate(names)}
        codes = [np.array([index[n] for n in part.names] or [0], dtype=np.int64)[part.code_O] for part in parts]
        return Codes(ragged_join([part.offsets_N1 for part in parts]), np.concatenate(codes), names)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Codes) and self.digest() == other.digest()  # names that no patient has do not count

    __hash__ = None

    @override
    def feed(self, sha: Any) -> None:
        sha.update(np.ascontiguousarray(self.offsets_N1))
        sha.update("\0".join(self.names[i] for i in self.code_O.tolist()).encode())


@dataclass(frozen=True)
class CodesBatch:
    """The codes of P patients, concatenated.

    Attributes
    ----------
    code_O
        int64: index in the schema's vocabulary; if there is no vocabulary, a 63-bit hash of the code's text.
    patient_O
        int64, position of the patient among the P, ascending.
    patients
        The number P.
    """

    code_O: "Tensor"
    patient_O: "Tensor"
    patients: int


@register
class CodesKind(Kind[CodesSection, CodesSchema, Codes]):
    """Codes."""

    section, schema, contents = CodesSection, CodesSchema, Codes

    @override
    def read(self, source: Source, wanted: Wanted[CodesSection]) -> tuple[CodesSchema, Codes] | None:
        return read_codes(source, wanted)

    @override
    def absent(self, name: str, section: CodesSection, n: int, problems: list[Problem]) -> tuple[CodesSchema, Codes]:
        return _schema(name, section), Codes(np.zeros(n + 1, dtype=np.int64), np.empty(0, dtype=np.int64), ())

    @override
    def describe(self, schema: CodesSchema) -> str:
        return "codes, " + (f"a vocabulary of {len(schema.vocabulary)}" if schema.vocabulary else "any")

    @override
    def features(self, schema: CodesSchema, contents: Codes) -> Iterator[tuple[str, Floats]]:
        yield "how many codes a patient has", np.diff(contents.offsets_N1).astype(np.float64)

    @override
    def members(self, schema: CodesSchema, contents: Codes) -> Members:
        return Members(contents.offsets_N1, contents.code_O, contents.names)

    @override
    def columns(self, folder: Path, patient_id_N: Text, schema: CodesSchema, contents: Codes) -> Columns:
        return {
            "patient_id": np.repeat(patient_id_N, np.diff(contents.offsets_N1)).tolist(),
            "code": pa.DictionaryArray.from_arrays(contents.code_O.astype(np.int32), list(contents.names)),
        }

    @override
    def fields(self, schema: CodesSchema, contents: Codes) -> dict[str, Any]:
        given = {"vocabulary": schema.vocabulary, "prefixes": schema.prefixes}
        return {field: value for field, value in given.items() if value}

    @override
    def inputs(self, schema: CodesSchema, contents: Codes, tensor: ToTensor) -> Callable[[Integers], CodesBatch]:
        codes = _numbered(schema, contents)

        def batch(index_P: Integers) -> CodesBatch:
            patient_O, source_O = ragged_rows(codes.offsets_N1, index_P)
            return CodesBatch(tensor(codes.code_O[source_O]), tensor(patient_O), len(index_P))

        return batch


def read_codes(source: Source, wanted: Wanted[CodesSection]) -> tuple[CodesSchema, Codes] | None:
    """Read the set of codes of each patient. A repeated code counts once; an empty code is ignored.

    Codes keep their spelling: the diagnosis 0101 is not 101, 250.00 is not 250.0. If there is a vocabulary, codes must
    be in it.
    """
    schema = _schema(wanted.name, wanted.section)
    patient_R = patient_rows(source, wanted)
    column = wanted.section.code
    if not source.has(column, f"{wanted.field}.code"):
        return None
    code_R, names = source.texts(column, Names(schema.vocabulary, exact=True))
    missing_words(source, wanted.name, column, "no code", "which counts as none")
    placeholders(source, wanted.name, names, code_R, "a code", schema.vocabulary)
    vocabulary = frozenset(schema.vocabulary)
    warn_of_codes(source, wanted.name, names, code_R, vocabulary)
    if vocabulary and (strangers := [name for name in names if name not in vocabulary]):
        bad_R = np.array([*(name not in vocabulary for name in names), False])[code_R]
        remedy = f"add it to {wanted.field}.vocabulary at all sites, or remove the row"
        source.report(f"codes that are not in the vocabulary: {listed(strangers)}", remedy, column, bad_R)
    if patient_R is None or wanted.position is None:
        return None
    known_R = (patient_R >= 0) & (code_R >= 0)
    ranked = sorted(names)
    rank = np.array([*np.argsort(np.argsort(np.array(names, dtype=np.str_))), 0], dtype=np.int64)
    pair_O2 = np.unique(np.stack([patient_R[known_R], rank[code_R[known_R]]], axis=1), axis=0)
    offsets_N1 = np.zeros(len(wanted.position) + 1, dtype=np.int64)
    np.cumsum(np.bincount(pair_O2[:, 0], minlength=len(wanted.position)), out=offsets_N1[1:])
    return schema, Codes(offsets_N1, pair_O2[:, 1], tuple(ranked))


def _schema(name: str, section: CodesSection) -> CodesSchema:
    vocabulary = tuple(declared_text(code) for code in section.vocabulary or ())
    return CodesSchema(name=name, vocabulary=vocabulary, prefixes=tuple(sorted(set(section.prefixes))))


def _numbered(schema: CodesSchema, codes: Codes) -> Codes:
    """Convert codes to the numbers that encoders use: vocabulary indices, or hashes of the code and of its prefixes."""
    if schema.vocabulary:
        place = {code: i for i, code in enumerate(schema.vocabulary)}
        number = np.array([place[name] for name in codes.names] or [0], dtype=np.int64)
        return replace(codes, code_O=number[codes.code_O])
    kinds = 1 + len(schema.prefixes)
    meant = [[name, *(f"{name[:n]}*" for n in schema.prefixes)] for name in codes.names]
    number_XK = np.array([[_hash(text) for text in texts] for texts in meant] or [[0] * kinds])
    patient_O = np.repeat(np.arange(len(codes.offsets_N1) - 1), np.diff(codes.offsets_N1))
    pair_O2 = np.stack([np.repeat(patient_O, kinds), number_XK[codes.code_O].reshape(-1)], axis=1)
    pair_O2 = np.unique(pair_O2, axis=0)
    offsets_N1 = np.zeros_like(codes.offsets_N1)
    np.cumsum(np.bincount(pair_O2[:, 0], minlength=len(offsets_N1) - 1), out=offsets_N1[1:])
    return Codes(offsets_N1, pair_O2[:, 1], codes.names)


def _hash(text: str) -> int:
    """Hash a text to 63 bits. The hash is the same at every site."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
