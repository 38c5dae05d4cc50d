"""The file and the page of an analysis disclose no small count."""

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remind.data.cohort.cohort import TEST, TRAIN, VALIDATION
from remind.errors import UserError
from remind_studies.analysis.analyse import analyse
from remind_studies.analysis.document import (
    Analysis,
    Consistency,
    ExpertUse,
    Gain,
    GroupFacts,
    Look,
    ModalityValue,
    Routing,
    Weights,
)
from remind_studies.analysis.mailed import mailed
from remind_studies.analysis.page import render
from remind_studies.analysis.patients import Patients
from remind_studies.analysis.request import analyze
from remind_studies.analysis.trained import Wish
from tests.attacker import Attacker

MODALITIES = ("eye", "lung", "note")
NAMES = {k: "+".join(m for i, m in enumerate(MODALITIES) if k >> i & 1) for k in range(1, 8)}
KINDS = ((TRAIN, 0), (VALIDATION, 0), (TEST, 0), (TEST, 1), (TEST, 2))
COUNT = st.sampled_from([0, 1, 2, 9, 10, 12, 40, 300])
COHORTS = st.dictionaries(st.integers(1, 7), st.tuples(*[COUNT] * 5).filter(any), min_size=1)
GAIN = Gain(seen=0.5, hidden=0.4, gain=0.1, low=0.0, high=0.2)


def patients_of(counts, visits=1):
    """Patients by group and kind; every `visits` of them one after the other are one person."""
    rows = [
        (k, part, c) for k, own in counts.items() for (part, c), n in zip(KINDS, own, strict=True) for _ in range(n)
    ]
    group_N, part_N, label_N = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    return Patients(group_N, part_N, label_N, (np.arange(len(rows)) // visits).astype(str), classes=3)


def everything(base, counts):
    """An analysis that tells all there is of these patients."""
    train = {k: own[0] for k, own in counts.items()}
    test = {k: sum(own[2:]) for k, own in counts.items()}
    rows = []
    for i, name in enumerate(MODALITIES):
        having = [k for k in counts if k >> i & 1 and k != 1 << i and test[k]]
        for mask, n in [(k, test[k]) for k in having] + ([(None, sum(test[k] for k in having))] if having else []):
            smaller = None if mask is None else mask & ~(1 << i)
            known = None if mask is None else smaller in train
            fields = {"mask": mask, "modality": name, "smaller": smaller, "known": known, "n": n, "positives": None}
            rows.append(ModalityValue(**fields, few=n < 30, auroc=None, accuracy=GAIN, loss=GAIN))
    drawn = {k: (n // 3, n - n // 3) for k, n in train.items() if n >= 32}
    model = base.models[0].model_copy(
        update={
            "drawn": {k: (12 if k % 2 else 2, 20 if k % 2 else 30) for k in drawn},
            "left_out": {k: n for k, n in train.items() if 0 < n < 32},
            "whole": dict.fromkeys(drawn, 32),
            "weights": (Weights(rounds=0, of={k: n / (sum(train.values()) or 1) for k, n in train.items() if n}),),
            "looks": (
                Look(
                    rounds=4,
                    stage=2,
                    routing={
                        k: Routing(n=n, gate_open=0.5, shared_entropy=0.9, entropy=0.8) for k, n in train.items() if n
                    },
                    consistency=dict.fromkeys(drawn, Consistency(score=0.9, singular=1.0, agreement=0.7)),
                ),
            ),
            "experts": ExpertUse(
                experts=2, top=1, n=train, of={k: (0.5 + k / 16, 0.5 - k / 16) for k in train}, apart=0.3
            ),
            "modality_value": tuple(rows),
        }
    )
    facts = tuple(
        GroupFacts(mask=k, name=NAMES[k], tail=n < 20, train=n, test=test[k]) for k, n in sorted(train.items())
    )
    cohort = base.cohort.model_copy(update={"groups": facts, "modalities": MODALITIES, "classes": ("a", "b", "c")})
    return base.model_copy(update={"cohort": cohort, "models": (model,)})


def atoms(counts, part, group=None, c=None):
    chosen = [k for k in counts if group in (None, k)]
    return [(k, *kind) for k in chosen for kind in KINDS if kind[0] == part and c in (None, kind[1])]


def heard(content, counts):
    """An attacker with the file and the cohort's totals; scores tell the classes, all else of a group its size."""
    attacker = Attacker({(k, *kind): n for k, own in counts.items() for kind, n in zip(KINDS, own, strict=True)})

    def hears(own, value=None):
        attacker.hears(own, sum(attacker.count_A[attacker.place[a]] for a in own) if value is None else value)

    for part in (TRAIN, VALIDATION, TEST):
        classes = [atoms(counts, part, c=c) for p, c in KINDS if p == part]
        sizes = [sum(counts[a[0]][KINDS.index(a[1:])] for a in own) for own in classes]
        if not 0 < sum(sizes) < 10:
            hears(atoms(counts, part))
        if not any(0 < n < 10 for n in (sum(sizes), *sizes)):
            for own in classes:
                hears(own)
    for group in content["cohort"]["groups"]:
        hears(atoms(counts, TRAIN, group["mask"]), group["train"])
        hears(atoms(counts, TEST, group["mask"]), group["test"])
    (model,) = content["models"]
    (look,) = model["looks"]
    for n_of in (model["left_out"], model["experts"]["n"], {k: r["n"] for k, r in look["routing"].items()}):
        for k, n in n_of.items():
            hears(atoms(counts, TRAIN, int(k)), n)
    for k in {
        *model["weights"][0]["of"],
        *look["consistency"],
        *model["drawn"],
        *model["whole"],
        *model["experts"]["of"],
    }:
        hears(atoms(counts, TRAIN, int(k)))
    for row in model["modality_value"]:
        i, mask = MODALITIES.index(row["modality"]), row["mask"]
        among = [k for k in counts if k >> i & 1 and k != 1 << i] if mask is None else [mask]
        hears([a for k in among for a in atoms(counts, TEST, k)], row["n"])
        for c in range(3):
            hears([a for k in among for a in atoms(counts, TEST, k, c)])
    return attacker


def numbers(counts):
    """Every set of patients that file or page has a place for."""
    found = [atoms(counts, part, k) for k in counts for part in (TRAIN, VALIDATION, TEST)]
    found += [[a] for a in atoms(counts, TEST)]
    for i in range(3):
        among = [k for k in counts if k >> i & 1 and k != 1 << i]
        found += [[a for k in among for a in atoms(counts, TEST, k, c)] for c in (None, 0, 1, 2) if among]
    return found


@pytest.mark.slow
@settings(max_examples=20)
@given(counts=COHORTS)
def test_no_few_patients_follow_from_the_file(counts, analysis):
    whole = everything(analysis, counts)
    content = mailed(whole, patients_of(counts), 10)
    attacker = heard(content.model_dump(mode="json"), counts)
    assert not attacker.finds_below(10, numbers(counts))
    told = {group.mask for group in content.cohort.groups}
    assert content.withheld_groups == len(counts) - len(told)
    assert all(v.known is None or v.smaller in told for v in content.models[0].modality_value)
    if all(n == 0 or n >= 10 for own in counts.values() for n in own):
        assert told == set(counts)
        assert content.withheld_rows == 0


COUNTS = {
    1: (90, 30, 20, 20, 20),
    3: (40, 20, 15, 15, 12),
    5: (60, 20, 20, 20, 2),
    6: (4, 1, 1, 1, 1),
    7: (30, 12, 40, 0, 0),
}


def test_the_page_names_only_the_groups_of_the_file_and_says_how_many_it_leaves_out(analysis):
    content = mailed(everything(analysis, COUNTS), patients_of(COUNTS), 10)
    told = {group.mask for group in content.cohort.groups}
    assert 6 not in told
    assert 1 in told
    page = render(content)
    for k, name in NAMES.items():
        alone = re.findall(rf"(?<![\w+]){re.escape(name)}(?=\*? \(|\*?</th>)", page.replace("<wbr>", ""))
        assert k in told or not alone or name in MODALITIES, name
    assert f"are left out: {5 - len(told)}." in page
    assert 5 not in {v.mask for v in content.models[0].modality_value}  # two test patients of class c
    assert f"if this holds for a class of the test patients: {content.withheld_rows}." in page
    assert content.withheld_rows > 0
    assert "They include counts of single patients" not in page
    assert "They include counts of single patients" in render(everything(analysis, COUNTS))


def test_visits_of_few_persons_are_few(analysis):
    counts = {1: (400, 200, 100, 100, 100), 2: (200, 200, 100, 100, 100), 4: (40, 100, 100, 100, 100)}
    whole = everything(analysis, counts)
    assert (
        mailed(whole, patients_of(counts, visits=9), 10).cohort.groups
        != mailed(whole, patients_of(counts), 10).cohort.groups
    )
    assert len(mailed(whole, patients_of(counts), 10).cohort.groups) == 3


def test_drawn_patients_of_a_small_class_are_not_counted_and_agreement_does_not_tell_them(analysis):
    counts = {1: (100, 30, 20, 20, 20), 2: (100, 20, 15, 15, 12)}
    (model,) = mailed(everything(analysis, counts), patients_of(counts), 10).models
    assert model.drawn == {1: (12, 20)}
    assert {k: c.agreement for k, c in model.looks[0].consistency.items()} == {1: 0.7, 2: None}
    assert model.looks[0].consistency[2].score == 0.9


def test_what_lies_behind_the_whole_set_is_told_only_of_enough_patients(analysis):
    counts = {1: (100, 30, 20, 20, 20), 2: (100, 20, 15, 15, 12), 4: (100, 20, 15, 15, 12)}
    whole = everything(analysis, counts)
    of = {1: 50, 2: 43, 4: 3}
    whole = whole.model_copy(update={"models": (whole.models[0].model_copy(update={"whole": of}),)})
    assert mailed(whole, patients_of(counts), 10).models[0].whole == {1: 50}


def test_experts_of_hidden_groups_do_not_count_in_how_far_they_are_apart(analysis):
    counts = {1: (100, 30, 20, 20, 20), 2: (100, 20, 15, 15, 12), 3: (100, 20, 3, 3, 3), 4: (100, 20, 3, 3, 3)}
    content = mailed(everything(analysis, counts), patients_of(counts), 10)
    use = content.models[0].experts
    assert use.of.keys() == {1, 2}
    assert use.apart == pytest.approx(1 / 16)


def test_a_run_is_analysed_under_a_minimum(run, analysis):
    content = analyse(run, None, Wish(every=None, patients=6), lambda: analysis.made, print, min_count=3)
    told = {group.mask for group in content.cohort.groups}
    assert 0 < len(told) < len(analysis.cohort.groups)
    assert all(group.train >= 3 and group.test in (0, *range(3, 999)) for group in content.cohort.groups)
    (model,) = content.models
    assert {k for look in model.looks for k in (*look.routing, *look.consistency)} | model.experts.of.keys() <= told
    assert Analysis.model_validate_json(content.model_dump_json()) == content
    render(content)


def test_gradients_of_fewer_patients_than_the_minimum_are_refused(folder):
    fields: dict[str, Any] = {
        "against": None,
        "every": None,
        "out": None,
        "cohort": None,
        "clients": None,
        "run_config": (),
        "say": print,
    }
    with pytest.raises(UserError, match=r"--patients 6: .* fewer than 10"):
        analyze(folder, patients=6, command="", min_count=10, **fields)
