"""Splits: persons are never divided, shares are correct, and the order of rows does not matter."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remind.config import SyntheticConfig
from remind.data.cohort.cohort import Cohort
from remind.data.cohort.kinds.table import TableSchema
from remind.data.cohort.schema import CohortSchema
from remind.data.sites.split import assign_split
from remind.data.synthetic.generate import generate
from remind.errors import UserError


def make(group_label_person: list[tuple[int, int, int]]) -> Cohort:
    """A cohort of three modalities without values: splitting looks at groups, labels and persons alone."""
    schema = CohortSchema(
        name="c", classes=("0", "1"), modalities=tuple(TableSchema(name=n, columns=("x",)) for n in "abc")
    )
    group_N, label_N, person_N = (np.array(column) for column in zip(*group_label_person, strict=True))
    n = len(group_N)
    return Cohort(
        schema=schema,
        patient_id_N=np.array([f"v{i:04d}" for i in range(n)]),
        person_N=person_N.astype(np.str_),
        label_N=label_N.astype(np.int64),
        site_N=None,
        split_N=None,
        presence_Nm=(group_N[:, None] >> np.arange(3) & 1).astype(bool),
        modalities={},
    )


rows = st.lists(st.tuples(st.integers(1, 7), st.integers(0, 1), st.integers(0, 60)), min_size=1, max_size=150)
fractions = st.tuples(st.floats(0, 0.45), st.floats(0, 0.45))


@settings(max_examples=60, deadline=None)
@given(rows, fractions, st.integers(0, 5), st.randoms(use_true_random=False))
def test_properties(rows, fractions, seed, random):
    cohort = make(rows)
    split = assign_split(cohort, seed, *fractions)
    of_person = {}
    for person, part in zip(split.person_N, split.split_N, strict=True):
        assert of_person.setdefault(person, part) == part
    assert np.any(split.split_N == 0)
    largest = np.unique(cohort.person_N, return_counts=True)[1].max()
    for part, fraction in zip((1, 2), fractions, strict=True):
        assert abs(np.sum(split.split_N == part) - fraction * len(cohort)) <= 1 + largest
    order = list(range(len(cohort)))
    random.shuffle(order)
    assert assign_split(cohort.take(order), seed, *fractions) == split.take(order)


def test_many_tiny_strata_give_the_right_shares():
    cohort = make([(1 + i % 7, i % 2, i) for i in range(28)])  # 14 strata of 2
    counts = np.bincount(assign_split(cohort, 0, 0.15, 0.2).split_N)
    assert counts.tolist() == [18, 4, 6]


def test_strata_are_balanced():
    cohort = generate(SyntheticConfig(patients=3000), 0)
    split = assign_split(cohort, 1, 0.15, 0.2)
    for group in np.unique(cohort.groups_N):
        for label in (0, 1):
            inside = (cohort.groups_N == group) & (cohort.label_N == label)
            for part, fraction in ((1, 0.15), (2, 0.2)):
                assert abs((split.split_N[inside] == part).sum() - fraction * inside.sum()) <= 1.5


def test_seed_matters_and_repeats():
    cohort = generate(SyntheticConfig(patients=300), 0)
    assert assign_split(cohort, 1, 0.15, 0.2) == assign_split(cohort, 1, 0.15, 0.2)
    assert assign_split(cohort, 1, 0.15, 0.2) != assign_split(cohort, 2, 0.15, 0.2)


def test_given_split_is_kept():
    cohort = make([(1, 0, 1), (1, 1, 2)])
    cohort = replace(cohort, split_N=np.array([2, 0], dtype=np.int8))
    assert assign_split(cohort, 0, 0.4, 0.4) == cohort


def test_nobody_to_train_on():
    cohort = make([(1, 0, 1), (1, 1, 2)])
    with pytest.raises(UserError, match="training split"):
        assign_split(replace(cohort, split_N=np.array([2, 1], dtype=np.int8)), 0, 0.1, 0.1)
    with pytest.raises(UserError, match="none of the 0 patients"):
        assign_split(cohort.take([]), 0, 0.1, 0.1)


SWITZERLAND = [(1, 43), (2, 31), (3, 44), (4, 3), (5, 1), (6, 9)]  # one hospital's groups, as in the UCI cohort


def parts(split) -> dict[int, list[int]]:
    """Training, validation and test patients of each group."""
    return {k: np.bincount(split.split_N[split.groups_N == k], minlength=3).tolist() for k in np.unique(split.groups_N)}


def hospital() -> Cohort:
    people = [(k, int(i % 4 == 0)) for k, n in SWITZERLAND for i in range(n)]
    return make([(k, label, i) for i, (k, label) in enumerate(people)])


def test_a_group_that_has_enough_is_evaluated():
    """By shares alone no group of this hospital has ten test patients, so that none of its statistics is ever shown."""
    cohort = hospital()
    without, found = parts(assign_split(cohort, 0, 0.1, 0.2)), parts(assign_split(cohort, 0, 0.1, 0.2, least=10))
    assert all(test < 10 for _, _, test in without.values())
    for k, n in SWITZERLAND:
        train, validation, test = found[k]
        assert train + validation + test == n
        if n < 20:
            assert found[k] == without[k], "it can be evaluated or trained on, not both"
        else:
            assert (validation, test) == (10, 10)
            assert train >= 10


@settings(max_examples=40, deadline=None)
@given(rows, fractions, st.integers(0, 12), st.randoms(use_true_random=False))
def test_what_a_group_gets_at_least(rows, fractions, least, random):
    cohort = make([(group, label, i) for i, (group, label, _) in enumerate(rows)])  # a row a person
    split = assign_split(cohort, 0, fractions[0], fractions[1], least=least)
    before = parts(assign_split(cohort, 0, *fractions))
    for k, (train, validation, test) in parts(split).items():
        had = before[k]
        if train < min(had[0], least):
            raise AssertionError("training patients are given away below the least")
        if fractions[1] > 0 and had[0] + had[2] >= 2 * least:
            assert test >= least
        assert test >= had[2]
        assert validation >= had[1]
    order = list(range(len(cohort)))
    random.shuffle(order)
    assert assign_split(cohort.take(order), 0, fractions[0], fractions[1], least=least) == split.take(order)


def test_persons_stay_whole_and_classes_in_proportion():
    cohort = make([(1, int(i % 5 == 0), i // 2) for i in range(60)])
    split = assign_split(cohort, 0, 0.05, 0.05, least=15)
    for person in np.unique(cohort.person_N):
        assert len(set(split.split_N[split.person_N == person])) == 1
    test_N = split.split_N == 2
    assert 15 <= np.sum(test_N) <= 16
    assert abs(split.label_N[test_N].mean() - cohort.label_N.mean()) < 0.1


def test_no_share_asked_for_is_none_given():
    assert {tuple(found[1:]) for found in parts(assign_split(hospital(), 0, 0.0, 0.0, least=10)).values()} == {(0, 0)}
