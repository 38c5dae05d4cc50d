"""FedMSplit: rows of the graph, a graph for each part, FedAvg at high temperature, a model for each site."""

import math

import pytest
import torch

from remind.config import Config, Scalar
from remind.errors import UserError
from remind.federation.aggregation import Reply
from remind.federation.rules.base import Replies
from remind.federation.rules.fedmsplit import edges, part_of
from remind.methods import methods_of
from remind.secure_settings import require_summable
from remind_server.rounds.checkpoints import Checkpoints
from remind_server.rounds.strategy import FedRemind
from tests.builders.cohorts import cohort
from tests.builders.configs import BASE
from tests.builders.grids import SiteGrid
from tests.builders.observers import Recorder
from tests.builders.sites import site

BODY, HEAD, GROUP = "fusion.x.weight", "fusion.head.weight", "fusion.groups.3.residual"


def settings(**changes: Scalar) -> Config:
    method: dict[str, Scalar] = {"method.rule": "fedmsplit", "method.objective": "erm", "method.fusion": "remind"}
    return Config.from_flat(BASE | method | changes)


def vectors(*rows):
    return {f"s{i}": torch.tensor(row, dtype=torch.float64) for i, row in enumerate(rows)}


def test_the_graph_minimises_its_objective():
    """Σ A·d + τ·KL(A ‖ a) over the simplex, by projected search from the closed form."""
    those, weight, tau = vectors([0.0, 0.0], [1.0, 0.0], [0.0, 3.0]), {"s0": 0.5, "s1": 0.3, "s2": 0.2}, 0.7
    found = edges(those, weight, tau)
    mean = (1 + 9 + 10) / 3

    def cost(site, row):
        return sum(
            a * float((those[site] - those[t]).square().sum()) / mean + tau * a * math.log(a / weight[t])
            for t, a in row.items()
        )

    generator = torch.Generator().manual_seed(0)
    for s, row in found.items():
        assert sum(row.values()) == pytest.approx(1)
        for other in torch.rand(200, 3, generator=generator).add(1e-3).tolist():
            near = {t: (1 - 0.1) * row[t] + 0.1 * o / sum(other) for t, o in zip(row, other, strict=True)}
            assert cost(s, row) <= cost(s, near) + 1e-12


def test_like_sites_are_neighbours_and_all_are_alike_at_high_temperature():
    those, weight = vectors([0.0], [0.1], [5.0]), {"s0": 0.2, "s1": 0.2, "s2": 0.6}
    near = edges(those, weight, 0.05)
    assert near["s0"]["s1"] == pytest.approx(0.5, abs=1e-2)
    assert near["s2"]["s2"] == pytest.approx(1.0)
    far = edges(those, weight, 1e12)
    assert all(row == pytest.approx(weight) for row in far.values())
    assert edges(vectors([1.0], [1.0]), {"s0": 0.5, "s1": 0.5}, 1.0)["s0"] == pytest.approx({"s0": 0.5, "s1": 0.5})


def test_every_part_has_a_graph_of_its_own():
    """In the body s0 is like s1, in the head like s2; the group's part is sent by two sites alone."""
    one = methods_of(settings(**{"method.rule": "fedmsplit(temperature = 0.01)"})).rule
    body, head = {"s0": 0.0, "s1": 0.0, "s2": 9.0}, {"s0": 1.0, "s1": 7.0, "s2": 1.0}
    replies = {
        s: Reply(
            {BODY: torch.tensor([body[s]]), HEAD: torch.tensor([head[s]])}
            | ({GROUP: torch.tensor([2.0 + i])} if i < 2 else {}),
            {"shared": 1 / 3, "group:3": 0.5},
        )
        for i, s in enumerate(body)
    }
    model = {name: torch.zeros(1) for name in (BODY, HEAD, GROUP)}
    moved, memory = one.server_round(model, dict(model), {}, Replies(0.1, {}, replies))
    assert moved == model
    assert {part_of(name) for name in model} == {"shared", "head", "group:3"}
    assert [float(memory[f"site/{s}/{BODY}"]) for s in body] == pytest.approx([0, 0, 9])
    assert [float(memory[f"site/{s}/{HEAD}"]) for s in body] == pytest.approx([1, 7, 1])
    assert f"site/s2/{GROUP}" not in memory
    assert one.for_site("s0", model, memory)[HEAD] == 1
    assert one.for_site("s2", model, memory)[GROUP] == 0, "what a site never had is the common model's"
    assert one.for_site("new", model, memory) == model


# In a run

MIXES = {"s1": [1, 3, 7] * 6, "s2": [3, 5, 7, 7] * 4, "s3": [7, 3] * 8}
EXACT: dict[str, Scalar] = {"precision": "float64", "federation.dtype": "float64", "federation.encoders": "shared"}


def run(folder, config, checkpoints=None, stop=None):
    members = [site(n, cohort(mix, seed), config, folder) for seed, (n, mix) in enumerate(MIXES.items())]
    recorder = Recorder()
    if stop is not None:
        done = recorder.round_done

        def round_done(record, tensors):
            done(record, tensors)
            if record.round == stop:
                raise KeyboardInterrupt

        recorder.round_done = round_done  # type: ignore[method-assign]
    try:
        FedRemind(config, [recorder], checkpoints=checkpoints).run(SiteGrid(members))
    except KeyboardInterrupt:
        assert stop is not None
    return recorder, members


def finished(members):
    return {m.name: m.store.model().tensors for m in members}


def test_at_high_temperature_it_is_fedavg_in_both_stages(tmp_path):
    found, members = run(tmp_path / "a", settings(**{"method.rule": "fedmsplit(temperature = 1e12)"} | EXACT))
    plain, others = run(tmp_path / "b", settings(**{"method.rule": "fedavg"} | EXACT))
    for name, tensor in plain.models[-1].items():
        torch.testing.assert_close(found.models[-1][name], tensor, rtol=0, atol=1e-9)
    own = finished(members)
    for name, tensors in finished(others).items():
        for key, tensor in tensors.items():
            torch.testing.assert_close(own[name][key], tensor, rtol=0, atol=1e-9)


def test_each_site_ends_with_a_model_of_its_own_through_both_stages(tmp_path):
    recorder, members = run(tmp_path, settings(**{"method.rule": "fedmsplit(temperature = 0.1)"} | EXACT))
    head = [tensors["fusion.head.weight"] for tensors in finished(members).values()]
    assert not torch.equal(head[0], head[1])
    assert not torch.equal(head[0], recorder.models[-1]["fusion.head.weight"])


def test_a_resumed_run_keeps_the_sites_models(tmp_path):
    changes: dict[str, Scalar] = EXACT | {"train.warmup-rounds": 2}
    whole, _ = run(tmp_path / "whole", settings(**changes))
    folder = tmp_path / "r"
    config = settings(**changes | {"results": str(folder)})
    run(tmp_path / "part", config, Checkpoints(folder), stop=2)
    resumed = config.model_copy(update={"run": config.run.model_copy(update={"resume": True})})
    rest, _ = run(tmp_path / "part", resumed, Checkpoints(folder))
    assert all(torch.equal(rest.models[-1][n], t) for n, t in whole.models[-1].items())
    for name, of_site in whole.result.test.items():
        assert {k: s.loss_sum for k, s in rest.result.test[name].items()} == {k: s.loss_sum for k, s in of_site.items()}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train.select": "overall"}, "train.select.*own model of the last round"),
        ({"federation.averaging": 0.5}, "federation.averaging"),
        ({"method.aggregator": "median"}, "combines the replies itself"),
    ],
)
def test_what_does_not_go_with_it_is_refused(changes, words):
    with pytest.raises(UserError, match=words):
        methods_of(settings(**changes))


def test_masked_rounds_refuse_it():
    with pytest.raises(UserError, match="weighs each site's answer by itself"):
        require_summable(settings(**{"federation.secure-aggregation": True}))
