import math
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from remind.config import EncoderConfig
from remind.data.cohort.cohort import TEST, TRAIN
from remind.fusion.experts import combine_weights
from remind.metrics.scores import scores
from remind.metrics.statistics import merge
from remind_studies.analysis.hospitals import Hospitals
from remind_studies.analysis.looks import Inspection, block_names, by_class, by_group, draw, draw_cohort, true_logits
from remind_studies.analysis.probe import Probe, routes
from tests.builders.analysed_runs import SITES, small_config, train
from tests.builders.fusions import context, model, patients


def all_drawn(hospitals, drawn):
    return {group: [(place, row_n.tolist()) for place, row_n in found] for group, found in drawn.items()}


def test_groups_have_equally_many_patients_or_are_left_out(hospitals):
    counts = hospitals.counts()
    limit = sorted(counts.values())[1]
    drawn, left_out = draw(hospitals, limit)
    assert left_out == {k: n for k, n in counts.items() if n < limit}
    assert drawn.keys() == counts.keys() - left_out.keys()
    for group, found in drawn.items():
        assert sum(len(row_n) for _, row_n in found) == limit
        for place, row_n in found:
            cohort = hospitals.sites[place].cohort
            assert (cohort.groups_N[row_n] == group).all()
            assert (cohort.split_N[row_n] == TRAIN).all()
            assert len(set(row_n.tolist())) == len(row_n)
    assert all(sum(classes) == limit for classes in by_class(hospitals, drawn).values())


def test_the_same_patients_are_drawn_again(hospitals, fresh):
    assert all_drawn(hospitals, draw(hospitals, 5)[0]) == all_drawn(fresh, draw(fresh, 5)[0])


def test_the_whole_cohort_has_groups_in_their_natural_shares(hospitals, fresh):
    everybody = sum(hospitals.counts().values())
    assert by_group(hospitals, draw_cohort(hospitals, everybody + 1)) == hospitals.counts()
    some = draw_cohort(hospitals, 60)
    assert sum(by_group(hospitals, some).values()) == 60
    head = max(hospitals.counts(), key=lambda k: hospitals.counts()[k])
    assert by_group(hospitals, some)[head] / 60 == pytest.approx(hospitals.counts()[head] / everybody, abs=0.15)
    assert [(p, r.tolist()) for p, r in some] == [(p, r.tolist()) for p, r in draw_cohort(fresh, 60)]


def test_head_groups_dominate_the_direction_of_the_cohort(hospitals, run):
    """Against the whole cohort each score is the cosine with the direction of all training patients' rows."""
    tensors, whole = run.tensors(), draw_cohort(hospitals, 10**6)
    drawn, _ = draw(hospitals, 6)
    alike = Inspection(hospitals, drawn).at(tensors, 4, routing=True).consistency
    found = Inspection(hospitals, drawn, whole).at(tensors, 4, routing=True).consistency
    as_group = Inspection(hospitals, {**drawn, 0: whole}, whole).at(tensors, 4, routing=True).consistency
    assert as_group[0].score == pytest.approx(1, abs=1e-4), "the cohort agrees with itself"
    for k in drawn:
        assert found[k].singular == pytest.approx(alike[k].singular), "g_k is the same"
        assert found[k].score == pytest.approx(as_group[k].score, abs=1e-4)
    assert any(abs(found[k].score - alike[k].score) > 1e-3 for k in drawn)


def test_the_score_is_that_of_rows_taken_one_by_one(hospitals, run):
    """Rows by plain autograd at each hospital, the eigenvector of the whole matrix, the sign by the mean row."""
    tensors = run.tensors()
    drawn, _ = draw(hospitals, 6)
    look = Inspection(hospitals, drawn).at(tensors, 4, routing=True)

    rows = {}
    with hospitals.in_use(tensors, routing=True) as views:
        for group, found in drawn.items():
            for place, row_n in found:
                engine = views[place].engine
                fusion = engine.model.fusion
                parameters = [fusion.get_parameter(name) for name in block_names(fusion)]
                for batch, tokens_BMD in views[place].source.batches([np.array([row]) for row in row_n]):
                    logits_1C = engine.model.fuse(tokens_BMD, batch.presence_Bm, batch.group_B, True).logits_BC
                    gradients = torch.autograd.grad(logits_1C[0, batch.label_B[0]], parameters)
                    rows.setdefault(group, []).append(torch.cat([g.reshape(-1) for g in gradients]).double())

    def direction(j_NP):
        g_P = torch.linalg.eigh(j_NP @ j_NP.T)[1][:, -1] @ j_NP
        return g_P * torch.sign(g_P @ j_NP.mean(dim=0))

    everyone = direction(torch.cat([torch.stack(own) for own in rows.values()]))
    for group, own in rows.items():
        expected = torch.nn.functional.cosine_similarity(direction(torch.stack(own)), everyone, dim=0)
        assert look.consistency[group].score == pytest.approx(float(expected), abs=1e-4)


def test_scores_differ_between_groups_and_lie_between_minus_one_and_one(hospitals, run):
    look = Inspection(hospitals, draw(hospitals, 6)[0]).at(run.tensors(), 4, routing=True)
    scores_G = [c.score for c in look.consistency.values()]
    assert len({round(s, 6) for s in scores_G}) == len(scores_G) > 1
    assert all(-1 <= s <= 1 for s in scores_G)


def test_gate_and_entropies_are_those_of_the_routers(hospitals, run):
    """Against the block's arithmetic written out for every patient."""
    tensors = run.tensors()
    look = Inspection(hospitals, {}).at(tensors, 4, routing=True)
    heard = {}
    with hospitals.in_use(tensors, routing=True) as views:
        for view in views:
            fusion = view.engine.model.fusion
            (block,) = fusion.blocks
            block.moe_norm.register_forward_hook(lambda module, inputs, x_BMD: heard.__setitem__("x", x_BMD))
            for batch, output in view.outputs(view.engine.patients.index[TRAIN]):
                for i, group in enumerate(batch.group_B.tolist()):
                    own_DES = fusion.groups[str(group)].residual_LDES[0]
                    phi_DES, x_MD = block.router.phi_DES, heard["x"][i]
                    entropies = []
                    for router_DES in (phi_DES, phi_DES + (own_DES if output.open_B[i] else 0)):
                        p_ME = combine_weights(torch.einsum("md,des->mes", x_MD, router_DES)[None])[0].sum(dim=-1)
                        entropies.append(float(-(p_ME * p_ME.log()).sum(dim=-1).mean()) / math.log(4))
                    heard.setdefault(group, []).append((float(output.open_B[i]), *entropies))
            block.moe_norm._forward_hooks.clear()
    del heard["x"]
    assert look.routing.keys() == heard.keys()
    rates = set()
    for group, values in heard.items():
        opened, shared, used = np.mean(values, axis=0)
        found = look.routing[group]
        assert found.n == len(values) == hospitals.counts()[group]
        assert (found.gate_open, found.shared_entropy, found.entropy) == pytest.approx((opened, shared, used), abs=1e-5)
        rates.add(found.gate_open)
    assert len(rates) > 1  # else the run would show nothing
    assert any(r.shared_entropy != r.entropy for r in look.routing.values())


def test_before_stage_2_there_is_no_gate(hospitals, run):
    look = Inspection(hospitals, {}).at(run.tensors(), 1, routing=False)
    assert {r.gate_open for r in look.routing.values()} == {None}
    assert all(r.entropy == pytest.approx(r.shared_entropy) for r in look.routing.values())


@pytest.mark.parametrize(("fusion", "entropy"), [("softmoe", True), ("attention", False), ("fusemoe", False)])
def test_models_without_gate_or_router_say_so(tmp_path, fusion, entropy):
    hospitals, result = train(tmp_path, small_config(method__fusion=fusion, train__warmup_rounds=1))
    look = Inspection(hospitals, draw(hospitals, 4)[0]).at(result.tensors, 2, routing=True)
    assert look.consistency
    assert all(r.gate_open is None for r in look.routing.values())
    assert all((r.entropy is not None) == entropy for r in look.routing.values())


def test_the_model_in_use_is_the_one_the_run_examined(hospitals, run, trained):
    """Statistics measured through the views are those of the run's final examination."""
    result, tensors = trained[1], run.tensors()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in result.tensors.items())
    with hospitals.in_use(tensors, routing=True) as views:
        found = merge([v.engine.evaluation.statistics(v.source, TEST, True) for v in views])
        hits = {}
        for view in views:
            for batch, output in view.outputs(view.engine.patients.index[TEST]):
                for group, hit in zip(batch.group_B, output.logits_BC.argmax(dim=1) == batch.label_B, strict=True):
                    hits.setdefault(int(group), []).append(bool(hit))
    expected = merge(result.test.values())
    assert found.keys() == expected.keys()
    for k in found:  # the analysis reads cached tokens, the examination encodes again: last digits may differ
        assert asdict(scores(found[k])) == pytest.approx(asdict(scores(expected[k])), abs=1e-6, nan_ok=True)
    assert {k: sum(h) for k, h in hits.items()} == {k: int(np.trace(s.confusion_CC)) for k, s in expected.items()}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"federation__encoders": "shared"},
        {"method__rule": "ditto"},
        {"method__rule": "local"},
        {"method__rule": "fedrep", "method__fusion": "softmoe"},
        {"model__encoders__alone": "linear"},
    ],
)
@pytest.mark.slow
def test_looking_does_not_disturb_a_training(tmp_path, changes):
    config = small_config(**changes)
    _, alone = train(tmp_path / "alone", config)

    hospitals = Hospitals(config, SITES, tmp_path / "watched")
    probe = Probe(Inspection(hospitals, draw(hospitals, 4)[0]), 1, lambda text: None)
    watched = hospitals.train([probe])
    assert [look.rounds for look in probe.looks] == [0, 1, 2, 3, 4]
    assert [look.stage for look in probe.looks] == [1, 1, 2, 2, 2]
    assert alone.tensors.keys() == watched.tensors.keys()
    assert all(torch.equal(alone.tensors[name], tensor) for name, tensor in watched.tensors.items())
    losses = [{site: {k: s.loss for k, s in own.items()} for site, own in r.test.items()} for r in (alone, watched)]
    assert losses[0] == losses[1]
    assert {len(look.consistency) for look in probe.looks} == {len(probe.looks[0].consistency)} != {0}


def test_what_a_site_knows_alone_is_no_modality():
    """Its token stands behind the others, and changes no gradient of the blocks."""
    of = context(encoders=EncoderConfig(alone="linear"), gate="always")
    fusion, given = model("remind", of, (3, 7)), patients(of, [3, 7, 7])
    tokens_BMD = torch.cat([*given.tokens, torch.ones(3, 1, of.width)], dim=1)
    batch = SimpleNamespace(presence_Bm=given.presence, group_B=given.group, label_B=torch.tensor([0, 1, 2]))
    at = {name: fusion.get_parameter(name).detach() for name in block_names(fusion)}
    found_B = true_logits(fusion, tokens_BMD, batch, routing=True)(at)
    torch.testing.assert_close(found_B, given.given_to(fusion).logits_BC[range(3), range(3)])


def test_stages_of_looks():
    config = small_config()
    assert [routes(config, rounds) for rounds in range(5)] == [False, False, True, True, True]
    assert not routes(small_config(train__routing_rounds=0), 2)


def test_the_last_look_of_a_training_is_the_look_at_what_it_left(run, tmp_path):
    hospitals = run.hospitals(tmp_path / "again", stored=False)
    drawn, _ = draw(hospitals, 6)
    probe = Probe(Inspection(hospitals, drawn), None, lambda text: None)
    result = hospitals.train([probe])
    stored = Inspection(run.hospitals(tmp_path / "stored", stored=True), drawn).at(result.tensors, 4, routing=True)
    assert probe.looks == [stored]
