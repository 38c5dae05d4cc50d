"""Held-out groups: no training before the adaptation, the same test patients for all models, only named parts move."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from remind import groups
from remind.adaptation.start import extended
from remind.data.cohort.cohort import TEST, TRAIN
from remind.errors import UserError
from remind.global_model import GlobalModel
from remind.methods import methods_of
from remind.training.site_model import fusion_of
from remind_studies.cells import unseen
from remind_studies.cells.cell import Cell
from remind_studies.cells.patients import hospitals
from remind_studies.cells.runners import run
from tests.builders.studies import LARGER, plan, request

ROUTED = [
    "not adapted",
    "own routing",
    "head",
    "head + router",
    "+ 25 % of experts",
    "+ 50 % of experts",
    "+ 100 % of experts",
]


def held(panel):
    return [int(mask) for mask in str(panel.options["groups"]).split(",")]


def cell(of, panel, seed=0):
    return panel.cell(panel.arms[0], of.common, seed)


def counted(outcome):
    return {site: {k: e.count for k, e in own.items()} for site, own in outcome.test.items()}


# Which groups


def test_the_rarest_with_enough_patients():
    of = request()
    counts = groups.counts(of.cohort.groups_N)
    (panel,) = plan("unseen(number = 2, least = 10)", of)
    enough = sorted((n, k) for k, n in counts.items() if n >= 10)
    assert held(panel) == sorted(k for _, k in enough[:2])
    assert panel.runner == "unseen"
    assert len(held(plan("unseen(number = 99, least = 10)", of)[0])) == len(enough) - 1, "one is left to train on"


def test_a_drawn_share():
    of = request()
    (panel,) = plan("unseen(share = 0.5, least = 10)", of)
    counts = groups.counts(of.cohort.groups_N)
    enough = [k for k, n in counts.items() if n >= 10]
    assert len(held(panel)) == -(-len(enough) // 2)
    assert set(held(panel)) < set(enough)
    assert plan("unseen(share = 0.5, least = 10)", of)[0].options == panel.options


def test_groups_by_name_and_a_panel_per_method():
    of = request("remind, attention")
    names = of.cohort.schema.names
    masks = sorted(groups.counts(of.cohort.groups_N))[:2]
    text = ", ".join(groups.name(k, names) for k in masks)
    panels = plan(f"unseen(groups = '{text}', rounds = 3)", of)
    assert [panel.name for panel in panels] == ["remind", "attention"]
    assert all(held(panel) == masks and panel.options["rounds"] == 3 for panel in panels)


@pytest.mark.parametrize(
    ("study", "methods", "words"),
    [
        ("unseen(groups = 'x')", "remind", "'x' is not a modality"),
        ("unseen(least = 100000)", "remind", "0 group.s. have 100000 patients or more"),
        ("unseen", "remind+local", "'local' there is no single complete model"),
        ("unseen", "remind+fedrep", "'fedrep' there is no single complete model"),
        ("unseen", "remind+ditto", "'ditto' there is no single complete model"),
        ("unseen", "remind+pooled", "'pooled' there is no single complete model"),
    ],
)
def test_mistakes(study, methods, words):
    with pytest.raises(UserError, match=words):
        plan(study, request(methods))


def test_all_groups_cannot_be_held_out():
    of = request()
    text = ", ".join(groups.name(k, of.cohort.schema.names) for k in groups.counts(of.cohort.groups_N))
    with pytest.raises(UserError, match="all groups would be held out"):
        plan(f"unseen(groups = '{text}')", of)


def test_a_group_that_nobody_has():
    of = request()
    counts = groups.counts(of.cohort.groups_N)
    free = next(k for k in range(1, 16) if k not in counts)
    with pytest.raises(UserError, match="no patient has exactly"):
        plan(f"unseen(groups = '{groups.name(free, of.cohort.schema.names)}')", of)


# What a run does


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    of = request()
    (panel,) = plan("unseen(number = 2, least = 10)", of)
    return panel, cell(of, panel), run(cell(of, panel), tmp_path_factory.mktemp("unseen"))


def test_every_model_is_measured_on_the_same_patients_of_all_groups(found):
    panel, one, result = found
    assert [outcome.name for outcome in result.outcomes] == ROUTED
    sizes = [counted(outcome) for outcome in result.outcomes]
    assert all(size == sizes[0] for size in sizes)
    expected = {h.name: groups.counts(h.cohort.groups_N[h.cohort.split_N == TEST]) for h in hospitals(one)}
    assert sizes[0] == expected
    assert set(held(panel)) <= {k for own in sizes[0].values() for k in own}


def test_nobody_trains_on_the_held_out_groups_before(found):
    panel, one, result = found
    assert not set(held(panel)) & set(result.counts)
    assert all(not set(held(panel)) & set(trace.weights) for trace in result.rounds)
    number = sum(
        int((np.isin(h.cohort.groups_N, held(panel)) & (h.cohort.split_N == TRAIN)).sum()) for h in hospitals(one)
    )
    assert result.facts["training patients to adapt to"] == number
    assert result.facts["hospitals without other patients, left out"] == 0


def test_own_routing_costs_those_seen_before_nothing_and_changes_those_held_out(found):
    panel, _, result = found
    nothing, own = (outcome.test for outcome in result.outcomes[:2])
    trained = set(result.counts)
    seen = [(nothing[s][k], own[s][k]) for s in nothing for k in nothing[s] if k in trained]
    new = [(nothing[s][k], own[s][k]) for s in nothing for k in nothing[s] if k in held(panel)]
    assert seen
    assert all(before == after for before, after in seen)
    assert any(before != after for before, after in new)


def test_more_moves_more(found):
    _, _, result = found
    others = [outcome.test for outcome in result.outcomes[1:]]
    assert all(one != other for i, one in enumerate(others) for other in others[i + 1 :])


def test_repeatable(found, tmp_path):
    _, one, result = found
    assert run(one, tmp_path).model_dump(exclude={"seconds"}) == result.model_dump(exclude={"seconds"})


@pytest.mark.parametrize(
    ("method", "steps"),
    [
        ("attention", ["not adapted", "head"]),
        ("softmoe+fedavg", ROUTED),
        ("fusemoe", ["not adapted", *ROUTED[2:]]),
        ("attention+jtt", ["not adapted", "head"]),
    ],
)
def test_other_methods_adapt_what_they_have(method, steps, tmp_path):
    of = request(method, **{"train.warmup-rounds": 2, "train.routing-rounds": 2})
    (panel,) = plan("unseen(number = 1, least = 10, rounds = 1)", of)
    result = run(cell(of, panel), tmp_path)
    assert [outcome.name for outcome in result.outcomes] == steps
    assert all(counted(outcome) == counted(result.outcomes[0]) for outcome in result.outcomes)


def test_the_model_that_meets_a_group_is_the_one_that_does_not_know_it():
    """Φ_k = 0 and the mean of the known B: the same output as without any block of the group."""
    settings = Cell.of({**LARGER, "model.gate": "always", "seed": 0}, 2).config
    one = Cell.of({**LARGER, "seed": 0}, 2)
    schema = hospitals(one)[0].cohort.schema
    fusion = fusion_of(schema, settings).eval()
    known, new = [1, 3, 9], 5
    fusion.add_groups(known, 0)
    torch.manual_seed(0)
    with torch.no_grad():
        for _, parameter in sorted(fusion.groups.named_parameters()):
            parameter.normal_()
    tensors = {f"fusion.{n}": p.detach().clone() for n, p in fusion.named_parameters()}
    extension = extended(tensors, GlobalModel.build(settings, schema, [new]).tensors)
    assert {n for n in extension if n not in tensors} == {
        f"fusion.groups.{new}.residual_LDES",
        f"fusion.groups.{new}.missing_D",
    }
    tokens = [torch.randn(4, n, settings.model.width) for n in fusion.context.tokens]
    presence = torch.tensor([[True, False, True, False]]).expand(4, 4)
    before = fusion(tokens, presence, torch.full((4,), new)).logits_BC
    fusion.add_groups([new], 0)
    named = dict(fusion.named_parameters())
    with torch.no_grad():
        for name, tensor in extension.items():
            named[name.removeprefix("fusion.")].copy_(tensor)
    torch.testing.assert_close(fusion(tokens, presence, torch.full((4,), new)).logits_BC, before)


def test_a_hospital_that_has_nobody_else_is_left_out(tmp_path, monkeypatch):
    of = request()
    (panel,) = plan("unseen(number = 1, least = 10)", of)
    whole = hospitals(cell(of, panel))
    having = [np.flatnonzero(h.cohort.groups_N == held(panel)[0]) for h in whole]
    which = max(range(len(whole)), key=lambda i: len(having[i]))
    alone = replace(whole[which], cohort=whole[which].cohort.take(having[which]))
    others = [h for i, h in enumerate(whole) if i != which]
    monkeypatch.setattr(unseen, "hospitals", lambda _: (alone, *others))
    assert sum(len(rows) for i, rows in enumerate(having) if i != which), "others meet the group too"
    result = unseen.run(cell(of, panel), tmp_path)
    assert result.facts["hospitals without other patients, left out"] == 1
    assert set(result.outcomes[0].test) == {h.name for h in others}


def test_fine_tuning_keeps_the_objective_but_not_a_second_start():
    base = {**LARGER, "seed": 0, "train.warmup-rounds": 3, "train.routing-rounds": 3}
    for objective, expected in (("groupdro", "groupdro"), ("jtt", "erm"), ("dfr", "erm")):
        config = Cell.of({**base, "method.objective": objective, "method.rule": "lg"}).config
        adapted = unseen.adapting_config(config, unseen.STEPS[1], 0)
        assert adapted.method.objective == expected
        assert (adapted.train.warmup_rounds, adapted.train.routing_rounds) == (0, 3)
        rule: Any = methods_of(adapted).rule
        assert rule.options.parts == "head"
