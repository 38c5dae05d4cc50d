"""Costs: parameters and FLOPs by formula, times in turns, and sizes that do not fit into memory."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from remind.data.sites.hospitals import pool
from remind.errors import UserError
from remind.objectives.base import StepInput
from remind_studies.cells import cost
from remind_studies.cells.cell import Cell
from remind_studies.cells.patients import hospitals
from remind_studies.cells.runners import run
from tests.builders.studies import SMALL, differences, plan, request

QUICK = "cost(turns = 5, seconds = 0.01)"


def test_remind_is_measured_without_group_routing_as_configured_and_always_on():
    of = request("softmoe, remind, attention")
    (panel,) = plan(QUICK, of)
    assert [arm.name for arm in panel.arms] == [
        "softmoe", "remind without group routing", "remind", "remind, gate always open", "attention",
    ]  # fmt: skip
    without, whole, always = (differences(of, panel, arm) for arm in panel.arms[1:4])
    assert (without, whole, always) == ({"model.gate": "never"}, {}, {"model.gate": "always"})
    assert panel.runner == "cost"


def test_sizes_from_files(tmp_path):
    path = tmp_path / "wide.toml"
    path.write_text(
        '[model]\nwidth = 32\nexperts = 3\ngate = "kl"\nhide = 0.5\n[model.encoders]\nimage = "resnet50"\n'
        "[train]\nbatch = 7\nlr = 0.5\n"
    )
    of = request()
    first, wide = plan(f"cost(sizes = '{path}')", of)
    assert (first.name, first.settings) == ("configured", {})
    assert wide.name == "wide"
    assert wide.settings == {"model.width": 32, "model.experts": 3, "train.batch": 7}
    assert wide.title == "D = 32, E = 3, S = 1, batch 7"
    with pytest.raises(UserError, match="two files are named wide"):
        plan(f"cost(sizes = '{path}, {tmp_path}/./x/../wide.toml')", of)
    with pytest.raises(UserError, match="cannot read"):
        plan("cost(sizes = '/nowhere.toml')", of)


def test_a_run_counts_parameters_and_flops(tmp_path):
    of = request("softmoe, remind")
    (panel,) = plan(QUICK, of)
    found = {arm.name: run(panel.cell(arm, of.common, 0), tmp_path / str(i)) for i, arm in enumerate(panel.arms)}
    facts = {name: result.facts for name, result in found.items()}
    assert all(result.outcomes == () for result in found.values())
    width, experts = int(SMALL["model.width"]), int(SMALL["model.experts"])
    groups = len(found["remind"].counts)
    lacking = sum(k != 15 for k in found["remind"].counts)
    soft, routed = facts["softmoe"], facts["remind"]
    assert routed["parameters of the fusion model"] - soft["parameters of the fusion model"] == groups * width * experts
    assert soft["of these, a group's own"] == width
    assert routed["of these, a group's own"] == pytest.approx(width * experts + width * lacking / groups)
    assert facts["remind without group routing"]["GFLOP of a step"] == soft["GFLOP of a step"]
    assert facts["remind, gate always open"]["GFLOP of a step"] == pytest.approx(soft["GFLOP of a step"], rel=0.05)
    assert {name: f.get("gates open") for name, f in facts.items()} | {"remind": None} == {
        "softmoe": None, "remind without group routing": 0.0, "remind": None, "remind, gate always open": 1.0,
    }  # fmt: skip
    for f in facts.values():
        assert 0 < f["÷ Soft MoE, low"] <= f["÷ Soft MoE"] <= f["÷ Soft MoE, high"]
        assert f["ms of a step"] > 0
        assert f["parameters of the encoders"] == soft["parameters of the encoders"] > 0
        assert f["GFLOP of encoding its patients"] > 0


def candidate(folder, **changes):
    cell = Cell.of({**SMALL, "method.fusion": "softmoe", "method.objective": "erm", "seed": 0, **changes}, 2)
    config = cost.one_step(cell.config)
    return cost.Stepper(config, pool(hospitals(cell)), folder)


def test_flops_are_those_of_the_matrix_products_and_of_plain_autograd(tmp_path):
    one = candidate(tmp_path)
    counted = 1e9 * one.facts()["GFLOP of a step"]
    work, model = one.work, one.site.engine.model.train()
    batch, tokens_BMD = next(iter(work.source.batches([work.plan[0].index_B])))

    def fuse(z, presence, group):
        return model.fuse(z, presence, group, routing=True)

    step = StepInput(
        batch, tokens_BMD, torch.ones(len(tokens_BMD)), fuse, tuple(model.counts.values()), torch.Generator(), {}
    )
    with FlopCounterMode(display=False) as counter:
        work.objective.step_loss(step).backward()
    assert counter.get_total_flops() == counted
    patients, tokens, width = tokens_BMD.shape
    experts, hidden = SMALL["model.experts"], 4 * width
    products = patients * (
        tokens * width * width * (3 + 1)  # qkv and out
        + 2 * tokens * tokens * width  # attention
        + 3 * tokens * width * experts  # router, dispatch, combine
        + 2 * experts * width * hidden
    )
    assert counted == pytest.approx(3 * 2 * products, rel=0.15), "forward once, backward twice"


def test_more_than_there_is_memory_for_is_refused_before_it_is_taken(tmp_path, monkeypatch):
    of = request(**{"model.width": 4096, "model.experts": 512})
    (panel,) = plan(QUICK, of)
    monkeypatch.setattr(cost, "free_bytes", lambda: 10**9)
    with pytest.raises(UserError, match=r"model.width=4096 and model.experts=512 need about \d+\.\d GB .* 1\.0 GB"):
        run(panel.cell(panel.arms[1], of.common, 0), tmp_path)


def test_bytes_are_found_without_making_anything(tmp_path):
    one = candidate(tmp_path, **{"method.fusion": "remind"})
    held = sum(p.numel() * p.element_size() for p in one.site.engine.model.fusion.parameters())
    assert cost.bytes_of(one.site.cohort, one.config) >= held
    train = one.site.cohort.take(one.site.engine.patients.index[0])
    assert cost.bytes_of(train, one.config) == held


def test_free_memory_as_the_system_tells_it(tmp_path):
    path = tmp_path / "meminfo"
    path.write_text("MemTotal: 9 kB\nMemAvailable:    1234 kB\n")
    assert cost.free_bytes(path) == 1234 * 1024
    assert cost.free_bytes(tmp_path / "none") is None
    path.write_text("nothing")
    assert cost.free_bytes(path) is None


def test_a_method_with_phases_is_measured_in_one(tmp_path):
    of = request("jtt, dfr, fairmixup", **{"train.warmup-rounds": 3, "train.routing-rounds": 3})
    (panel,) = plan(QUICK, of)
    configs = [cost.one_step(panel.cell(arm, of.common, 0).config) for arm in panel.arms]
    assert [config.method.objective for config in configs] == ["erm", "erm", "fairmixup"]
    for arm in panel.arms:
        assert run(panel.cell(arm, of.common, 0), tmp_path / arm.name).facts["ms of a step"] > 0
