import json
from dataclasses import replace

import pytest
import torch

from remind.data.cohort.cohort import TEST
from remind.groups import members
from remind_client.rounds.site import Site
from remind_client.store.site_store import SiteStore
from remind_studies.analysis.modality_value import FEW, modality_value, predict
from tests.builders.sites import CPU


@pytest.fixture
def tensors(run):
    return run.tensors()


def test_every_group_and_modality_has_a_value(hospitals, tensors):
    values = modality_value(hospitals, tensors, routing=True)
    tested, names = hospitals.counts(TEST), hospitals.schema.names
    asked = {(k, names[i]) for k in tested for i in members(k) if len(members(k)) > 1}
    assert {(v.mask, v.modality) for v in values if v.mask is not None} == asked
    for v in values:
        if v.mask is None:
            having = [k for k in tested if k >> names.index(v.modality) & 1 and len(members(k)) > 1]
            assert v.n == sum(tested[k] for k in having)
        else:
            assert v.n == tested[v.mask]
            assert v.smaller == v.mask & ~(1 << names.index(v.modality))
            assert v.known == (v.smaller in hospitals.counts())
        assert v.few == (v.n < FEW)
    assert {True, False} == {v.few for v in values}
    assert any(v.loss.gain != 0 for v in values)


def test_hiding_is_as_if_the_patients_had_never_had_it(hospitals, tensors, tmp_path):
    """Against sites whose cohorts lack the modality from the start, with the same weights."""
    modality = 0
    tested = predict(hospitals, tensors, routing=True)
    with hospitals.in_use(tensors, routing=True, every_group=True) as views:
        weights = [{n: t.clone() for n, t in view.engine.model.state_dict().items()} for view in views]
    start = 0
    for site, own in zip(hospitals.sites, weights, strict=True):
        rows = site.engine.patients.index[TEST]
        cohort = site.cohort.without(hospitals.schema.names[modality])
        hidden = (site.cohort.groups_N[rows] >> modality & 1 == 1) & (cohort.groups_N[rows] > 0)
        engine = Site(site.name, cohort, hospitals.config, SiteStore(tmp_path / "bare" / site.name), CPU).engine
        logits_BC = bare_logits(engine, own, rows[hidden])
        found_BC = tested.hidden[modality].log_p_NC[start : start + len(rows)][hidden]
        assert found_BC == pytest.approx(logits_BC.double().log_softmax(dim=1).numpy(), abs=1e-5)
        start += len(rows)


@torch.no_grad()
def bare_logits(engine, weights, rows):
    """Logits of a site that lacks a modality, with another site's weights as far as it has the parts."""
    model = engine.model.eval()
    model.fusion.keep_groups({int(n.split(".")[2]) for n in weights if ".groups." in n}, 0)
    model.load_state_dict({n: t for n, t in weights.items() if n in model.state_dict()})
    batch = engine.state.data.batch(rows)
    return model.fuse(model.tokens(batch), batch.presence_Bm, batch.group_B, True).logits_BC


def test_a_group_of_another_hospital_uses_that_hospitals_parameters(hospitals, tensors):
    """Every hospital knows all groups when modalities are hidden, and only its own otherwise."""
    known = {int(name.split(".")[2]) for name in tensors if name.startswith("fusion.groups.")}
    with hospitals.in_use(tensors, routing=True, every_group=True) as views:
        assert all(set(v.engine.model.fusion.known_groups()) == known for v in views)
        named = [dict(v.engine.model.named_parameters()) for v in views]
        assert all(torch.equal(own[name], tensors[name]) for own in named for name in tensors)
    with hospitals.in_use(tensors, routing=True) as views:
        assert all(set(v.engine.model.fusion.known_groups()) == known & set(v.engine.patients.observed) for v in views)


def test_a_modality_that_says_nothing_gains_nothing(hospitals, tensors):
    """A model that looks at no token: hiding one changes nothing, not to the last bit but to rounding."""
    blind = {n: torch.zeros_like(t) if n == "fusion.head.weight" else t for n, t in tensors.items()}
    for v in modality_value(hospitals, blind, routing=True):
        assert v.loss.gain == pytest.approx(0, abs=1e-9)
        assert v.accuracy.gain == 0
        assert v.auroc is None or v.auroc.gain == 0


def test_values_are_the_same_again(hospitals, tensors):
    assert modality_value(hospitals, tensors, True) == modality_value(hospitals, tensors, True)


def test_full_predictions_are_those_of_the_run(hospitals, tensors, folder):
    """Accuracy per group as the run's own final table has it."""
    rows = json.loads((folder / "final.json").read_text())
    expected = {row["mask"]: row["accuracy"] for row in rows if row["site"] == "all" and row["mask"] and row["n"]}
    tested = predict(hospitals, tensors, routing=True)
    for group, accuracy in expected.items():
        chosen = tested.group_N == group
        part = replace(tested.full, log_p_NC=tested.full.log_p_NC[chosen], label_N=tested.full.label_N[chosen])
        assert part.correct_N.mean() == pytest.approx(accuracy)
