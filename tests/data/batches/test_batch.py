"""Batches equal those of a slow loop: of each modality exactly the patients who have it."""

import numpy as np
import pytest
import torch

from remind.config import SyntheticConfig
from remind.data.batches.batch import SiteData
from remind.data.batches.lazy import Request
from remind.data.cohort.cohort import Cohort, presence
from remind.data.cohort.contents import Contents
from remind.data.cohort.file_kind import FileKind
from remind.data.cohort.kind import kind_of
from remind.data.cohort.kinds.codes import Codes, CodesBatch, CodesSchema
from remind.data.cohort.kinds.series import SeriesBatch
from remind.data.cohort.kinds.text import Texts, TextSchema
from remind.data.cohort.schema import CohortSchema
from remind.data.synthetic.generate import generate
from tests.builders.cohorts import contents
from tests.builders.masks import cohort_of_masks

COHORT = generate(SyntheticConfig(patients=80), 0)


@pytest.mark.parametrize("index", [[5, 3, 3, 79, 0], list(range(80)), [7], []])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gather(index, dtype):
    batch = SiteData(COHORT, dtype).batch(np.array(index, dtype=np.int64))
    assert batch.index_B.tolist() == index
    assert batch.group_B.tolist() == COHORT.groups_N[index].tolist()
    assert batch.label_B.tolist() == COHORT.label_N[index].tolist()
    np.testing.assert_array_equal(batch.presence_Bm.numpy(), COHORT.presence_Nm[index])
    having = [i for i in index if COHORT.presence_Nm[i, 3]]
    table = batch.inputs["M4"]
    assert isinstance(table, torch.Tensor)
    np.testing.assert_array_equal(table.numpy(), contents(COHORT, "M4").values_NF[having])
    assert table.dtype == dtype
    series, found = contents(COHORT, "M2"), batch.inputs["M2"]
    assert isinstance(found, SeriesBatch)
    having = [i for i in index if COHORT.presence_Nm[i, 1]]
    expected = [
        (series.time_O[o], series.item_O[o], series.value_O[o], p)
        for p, i in enumerate(having)
        for o in range(series.offsets_N1[i], series.offsets_N1[i + 1])
    ]
    actual = zip(*(x.tolist() for x in (found.time_O, found.item_O, found.value_O, found.patient_O)), strict=True)
    assert list(actual) == expected
    assert found.patients == len(having)
    assert found.value_O.dtype == dtype


def test_only_what_is_wanted_is_gathered():
    batch = next(SiteData(COHORT).batches([Request(np.arange(9), only=("M2",))]))
    assert set(batch.inputs) == {"M2"}


def noted() -> Cohort:
    """Twelve patients with notes, every third without one."""
    schema = TextSchema(name="note")
    notes = Texts(np.array([None if i % 3 == 2 else f"note {i}" for i in range(12)], dtype=object))
    whole = CohortSchema(name="c", classes=("no", "yes"), modalities=(schema,))
    ids = np.arange(12).astype(str)
    held: dict[str, Contents] = {"note": notes}
    return Cohort(whole, ids, ids, np.zeros(12, dtype=np.int64), None, None, presence(whole, held), held)


@pytest.mark.parametrize(("cohort", "kinds"), [(noted(), {"text"}), (cohort_of_masks(12), {"volume"})])
@pytest.mark.parametrize("index", [[5, 3, 3, 0], list(range(12)), []])
def test_a_kind_of_files_opens_them_as_a_batch_does(cohort, kinds, index):
    batch = SiteData(cohort, torch.float64).batch(np.array(index, dtype=np.int64))
    for i, schema in enumerate(cohort.schema.modalities):
        kind, expected = kind_of(schema), batch.inputs[schema.name]
        having = np.array([n for n in index if cohort.presence_Nm[n, i]], dtype=np.int64)
        opened = kind.inputs(schema, cohort.modalities[schema.name], lambda a: torch.as_tensor(a).double())(having)
        assert torch.equal(opened, expected) if torch.is_tensor(expected) else opened == expected
        assert isinstance(kind, FileKind)
    assert {schema.kind for schema in cohort.schema.modalities} == kinds


def coded(vocabulary=(), prefixes=()):
    """Three patients with codes, one of them without any."""
    schema = CodesSchema(name="icd", vocabulary=vocabulary, prefixes=prefixes)
    codes = Codes(np.array([0, 2, 2, 5]), np.array([2, 0, 0, 1, 2]), ("I21.4", "I21.9", "E11"))
    whole = CohortSchema(name="c", classes=("no", "yes"), modalities=(schema,))
    ids = np.array(["a", "b", "c"])
    held: dict[str, Contents] = {"icd": codes}
    return Cohort(whole, ids, ids, np.zeros(3, dtype=np.int64), None, None, presence(whole, held), held)


def codes_of(cohort, index):
    found = SiteData(cohort).batch(np.array(index)).inputs["icd"]
    assert isinstance(found, CodesBatch)
    return [found.code_O[found.patient_O == p].tolist() for p in range(found.patients)]


def test_codes_of_a_vocabulary_are_their_places_in_it():
    cohort = coded(vocabulary=("E11", "I21.4", "I21.9"))
    assert codes_of(cohort, [2, 1, 0]) == [[1, 2, 0], [0, 1]]


def test_other_codes_are_hashes_of_their_text_and_prefixes():
    plain, more = codes_of(coded(), [0, 2]), codes_of(coded(prefixes=(3,)), [0, 2])
    assert [len(c) for c in plain] == [2, 3]
    assert all(0 <= code < 2**63 for codes in plain for code in codes)
    assert plain[0][0] in plain[1], "E11 of both"
    assert [set(p) <= set(m) for p, m in zip(plain, more, strict=True)] == [True, True]
    assert [len(m) for m in more] == [4, 5], "I21* counts once for a patient with I21.4 and I21.9"
    assert len(set(more[0]) & set(more[1])) == 4, "I21.4, I21*, E11, E11*"
