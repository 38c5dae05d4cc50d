"""A process that compiles nothing loads no compiler: not for its estimate, and not for its optimiser."""

import json
import subprocess
import sys

import pytest
import torch
from torch import nn

from remind.training.eager import ShapesOnly

CODE = """
import json, sys, torch
from remind.config import Config, TrainConfig
from remind.data.synthetic.generate import generate
from remind.training.local import optimizer_of
from remind_server.simulation.estimate import size_of

config = Config.from_flat({"synthetic.patients": 40})
cohort = generate(config.synthetic, 0)
size = size_of(config, cohort.schema, {1, 3})
after = {}
for kind in ("sgd", "adamw"):
    weight = torch.nn.Parameter(torch.linspace(-1, 1, 5))
    for _ in range(2):
        optimizer = optimizer_of(TrainConfig(optimizer=kind, lr=0.1, weight_decay=0.01), [{"params": [weight]}])
        if _:
            optimizer.load_state_dict(state)
        weight.pow(3).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        state = optimizer.state_dict()
    after[kind] = weight.tolist()
print(json.dumps([after, size.fusion, sorted({"sympy", "torch._dynamo"} & set(sys.modules))]))
"""


@pytest.fixture(scope="module")
def alone():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_no_compiler_is_loaded(alone):
    _, parameters, loaded = alone
    assert parameters > 0
    assert loaded == []


@pytest.mark.parametrize(("kind", "options"), [("sgd", {}), ("adamw", {"fused": True})])
def test_steps_are_those_of_torch(alone, kind, options):
    import torch._dynamo  # torch's own optimisers, with the compiler that they load

    weight = nn.Parameter(torch.linspace(-1, 1, 5))
    build = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[kind]
    optimizer = build([weight], lr=0.1, weight_decay=0.01, **options)
    for _ in range(2):
        weight.pow(3).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert alone[0][kind] == weight.tolist()


def test_shapes_are_those_of_tensors_with_values():
    with torch.device("meta"), ShapesOnly():
        made = [nn.Linear(3, 4), nn.Embedding(5, 2), nn.LayerNorm(6)]
        product, drawn = torch.randn(2, 3, 4) / 7 * 2.0, torch.rand(8)
        added = torch.zeros(2, 1) * torch.ones(1, 3)
    assert [tuple(p.shape) for module in made for p in module.parameters()] == [(4, 3), (4,), (5, 2), (6,), (6,)]
    assert (product.shape, drawn.shape, added.shape) == ((2, 3, 4), (8,), (2, 3))
    assert all(tensor.is_meta for tensor in (product, drawn, added, made[1].weight))
