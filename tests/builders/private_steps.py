"""Steps with noise at a site, beside a loop over its patients."""

import numpy as np
import torch

from remind.config import Scalar
from remind.data.batches.batch import SiteData
from remind.methods import methods_of
from remind.training.local import build_optimizer
from remind.training.private.gradients import Clipping, PrivateGradients
from remind.training.sampling import Step
from remind.training.site_data import FreshTokens
from remind.training.site_model import SiteModel
from remind.training.work import LocalWork, RoundSettings
from tests.builders.cohorts import cohort, schema
from tests.builders.configs import settings

GROUPS = [1, 2, 3, 5, 7, 3, 3, 5, 6]


SECRET = bytes(range(32))


PLAIN: dict[str, Scalar] = {"method.objective": "erm", "model.hide": 0.0}


def setting(changes=(), groups=(1, 2, 3, 5, 6, 7, 4), trains=True):
    """A float64 model whose tokens are tables', with random residuals, and the work of its steps."""
    config = settings(PLAIN | dict(changes))
    patients = cohort(GROUPS, of=schema(series=()))
    model = SiteModel(patients.schema, config, ("a", "b", "c")).double()
    model.fusion.add_groups(groups, 0)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".residual_" in name or "projection" in name:
                parameter.copy_(torch.randn_like(parameter))
    source = FreshTokens(model, SiteData(patients, torch.float64))
    optimizer = build_optimizer(config.train, model, trains)
    return LocalWork(model, methods_of(config).objective, source, RoundSettings(lr=0.1, routing=True), (), optimizer)


def given(work, index, weights):
    (batch, tokens) = next(work.source.batches([np.array(index)]))
    return work.step_input(Step(np.array(index), np.array(weights)), batch, tokens, 0)


def by_loop(work, index, weights):
    """Each patient's gradient of r·ℓ by itself, by parameter."""
    rows = []
    for i, weight in zip(index, weights, strict=True):
        work.model.zero_grad(set_to_none=True)
        work.objective.step_loss(given(work, [i], [weight])).backward()
        rows.append({n: p.grad.clone() for n, p in work.model.named_parameters() if p.grad is not None})
    work.model.zero_grad(set_to_none=True)
    return rows


def check(work, index=(0, 1, 2, 3, 4, 5, 6, 7)):
    weights = np.linspace(0.5, 2.0, len(index))
    work.model.train()
    rows = by_loop(work, index, weights)
    norms = torch.stack([torch.stack([g.square().sum() for g in row.values()]).sum().sqrt() for row in rows])
    clip = norms.median().item() * 1.001  # half of the patients are clipped
    private = PrivateGradients(work.model, Clipping(clip, 0.0, 1.0), SECRET, "q")
    with private.recording():
        found = private.clipped_sum(work.objective, given(work, index, weights))
    torch.testing.assert_close(found.norm_B, norms, rtol=1e-10, atol=1e-13)
    reached = set().union(*rows)
    for name in reached:
        expected = sum(
            row[name] * min(1.0, clip / norm) for row, norm in zip(rows, norms.tolist(), strict=True) if name in row
        )
        torch.testing.assert_close(found.sums[name], expected, rtol=1e-9, atol=1e-13, msg=name)
    assert {name for name, total in found.sums.items() if total.abs().max() > 0} <= reached
    return found
