"""Features of cohorts with every kind of modality: columns depend on the schema, a row on one patient alone."""

from dataclasses import replace

import numpy as np
import pytest

from remind.data.cohort.cohort import Cohort, presence
from remind.data.cohort.kinds.codes import Codes, CodesSchema
from remind.data.cohort.kinds.pictures import Files, ImageSchema
from remind.data.cohort.kinds.table import Table, TableSchema
from remind.data.cohort.kinds.text import Texts, TextSchema
from remind.data.cohort.schema import CohortSchema
from remind.data.features import FeatureMap

SCHEMA = CohortSchema(
    name="clinic",
    classes=("no", "yes"),
    modalities=(
        TableSchema(name="lab", columns=("a", "b"), categories={"b": ("x", "y", "z")}),
        CodesSchema(name="codes", vocabulary=("I21", "J44")),
        CodesSchema(name="open", prefixes=(3,)),
        TextSchema(name="note"),
        ImageSchema(name="picture", size=(4, 4), channels=1),
    ),
)


def offsets(*counts: int) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def cohort() -> Cohort:
    nan = np.float32(np.nan)
    pictures = np.array([np.full((4, 4), 0.5, np.float32), None, np.eye(4, dtype=np.float32)], dtype=object)
    modalities = {
        "lab": Table(np.array([[1, 2], [nan, nan], [3, nan]], dtype=np.float32)),
        "codes": Codes(offsets(1, 2, 0), np.array([1, 0, 1]), ("I21", "J44")),
        "open": Codes(offsets(0, 1, 2), np.array([0, 0, 1]), ("I21.4", "K50")),
        "note": Texts(np.array(["chest pain", "pain pain fever", None], dtype=object)),
        "picture": Files(pictures),
    }
    return Cohort(
        schema=SCHEMA,
        patient_id_N=np.array(["p1", "p2", "p3"]),
        person_N=np.array(["p1", "p2", "p3"]),
        label_N=np.array([0, 1, 1]),
        site_N=None,
        split_N=None,
        presence_Nm=presence(SCHEMA, modalities),
        modalities=modalities,
    )


@pytest.fixture(scope="module")
def features():
    return FeatureMap.of(SCHEMA).features(cohort())


def column(features, name):
    return features.values_NF[:, features.columns.names.index(name)]


def test_every_column_has_a_name_of_its_own_and_categories_their_levels(features):
    names = features.columns.names
    assert features.values_NF.shape == (3, len(names))
    assert len(set(names)) == len(names)
    assert features.columns.levels_F[names.index("lab: b")] == 3
    assert sum(features.columns.levels_F) == 3


def test_what_a_patient_lacks_is_missing_and_who_has_it_is_told(features):
    np.testing.assert_array_equal(column(features, "lab: a"), [1, np.nan, 3])
    np.testing.assert_array_equal(column(features, "codes: J44"), [1, 1, np.nan])
    np.testing.assert_array_equal(column(features, "codes: number of codes"), [1, 2, np.nan])
    np.testing.assert_array_equal(column(features, "note is there"), [1, 1, 0])
    np.testing.assert_array_equal(np.isnan(column(features, "picture: mean")), [False, True, False])
    assert column(features, "picture: mean")[2] == pytest.approx(0.25, abs=0.05)


def test_codes_without_a_vocabulary_are_hashed_with_their_prefixes(features):
    buckets = [i for i, name in enumerate(features.columns.names) if name.startswith("open: bucket")]
    counted = np.nansum(features.values_NF[:, buckets], axis=1)
    np.testing.assert_array_equal(counted, [0, 2, 3])  # I21.4 and I21; K50 is its own prefix


def test_notes_have_rows_of_length_one_and_their_size(features):
    buckets = [i for i, n in enumerate(features.columns.names) if n.startswith("note: ") and n[6:].isdecimal()]
    np.testing.assert_allclose(np.linalg.norm(features.values_NF[:2, buckets], axis=1), 1)
    np.testing.assert_array_equal(column(features, "note: words"), [2, 3, np.nan])


def test_a_row_depends_on_its_patient_alone_and_on_no_order():
    whole, order = cohort(), [2, 0, 1]
    one = FeatureMap.of(SCHEMA)
    np.testing.assert_array_equal(one.features(whole.take(order)).values_NF, one.features(whole).values_NF[order])
    for i in range(3):
        np.testing.assert_array_equal(one.features(whole.take([i])).values_NF[0], one.features(whole).values_NF[i])


def test_labels_enter_nothing():
    whole = cohort()
    other = replace(whole, label_N=1 - whole.label_N)
    np.testing.assert_array_equal(
        FeatureMap.fitted(whole).features(whole).values_NF, FeatureMap.fitted(other).features(whole).values_NF
    )


def test_word_weights_are_those_of_the_training_patients():
    whole = cohort()
    fitted = FeatureMap.fitted(whole.take([0, 1]))
    again = FeatureMap.fitted(whole.take([0, 1, 2]))  # the third has no note
    np.testing.assert_array_equal(fitted.idf["note"], again.idf["note"])
    alone = FeatureMap.fitted(whole.take([0]))
    assert not np.array_equal(alone.idf["note"], fitted.idf["note"])
    weights = np.sort(np.unique(fitted.idf["note"].round(9)))
    np.testing.assert_allclose(weights, [1, np.log(3 / 2) + 1, np.log(3) + 1], atol=1e-8)  # in two, one, no notes
