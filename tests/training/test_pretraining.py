"""Learning without labels: against loops, on a rule that can be told, and on whom it learns from."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from remind.data.cohort.cohort import TEST, TRAIN
from remind.data.cohort.kinds.pictures import ImageSchema
from remind.data.cohort.kinds.series import SeriesBatch
from remind.data.cohort.kinds.series_schema import SeriesSchema
from remind.data.cohort.kinds.table import Table, TableSchema
from remind.data.cohort.schema import CohortSchema
from remind.encoders import build_encoder
from remind.encoders.hidden_values import HIDDEN
from remind.errors import UserError
from remind.training.pretraining import draws, learners, pretrain
from remind.training.site_model import SiteModel, fusion_of
from tests.builders.cohorts import cohort, contents
from tests.builders.configs import settings

ROUNDS = "model.encoders.pretraining-rounds"
TABLE = TableSchema(name="t", columns=("p", "q", "r"), categories={"q": ("lo", "hi")})
SERIES = SeriesSchema(name="s", items=("u", "v"), horizon_hours=24.0)


def config(**changes):
    return settings({ROUNDS: 3, "train.local-steps": 10, "train.lr": 0.01} | changes)


def weights(patients, seed=0, **changes):
    given = config(**changes)
    model = SiteModel(patients.schema, given, patients.schema.names)
    pretrain(model, patients, given, seed)
    return {name: tensor.clone() for name, tensor in model.encoders.state_dict().items()}


def differ(one, other):
    return {name for name in one if not torch.equal(one[name], other[name])}


@pytest.mark.parametrize("changes", [{}, {"model.encoders.table": "features"}, {"model.encoders.numbers": "quantile"}])
def test_the_loss_of_hidden_cells_is_that_of_a_loop(changes):
    encoder: Any = build_encoder(TABLE, settings(changes).model, 0).double()
    hidden = encoder.hidden_values().double()
    values_PF = torch.tensor([[0.5, 1.0, torch.nan], [-1.0, 0.0, 2.0], [3.0, torch.nan, 0.1]] * 4, dtype=torch.float64)
    torch.manual_seed(3)
    found = hidden(values_PF)
    torch.manual_seed(3)
    hides_PF = torch.rand_like(values_PF) < HIDDEN
    seen_PF = values_PF.clone()
    losses = []
    for p in range(len(values_PF)):
        for f in range(3):
            if hides_PF[p, f]:
                seen_PF[p, f] = torch.nan
    told_PX = hidden.head(encoder(seen_PF).flatten(1))
    for p in range(len(values_PF)):
        for f, start in enumerate((0, 1, 3)):
            if not hides_PF[p, f] or values_PF[p, f].isnan():
                continue
            if f == 1:
                losses.append(functional.cross_entropy(told_PX[p, start : start + 2], values_PF[p, f].long()))
            else:
                losses.append(functional.smooth_l1_loss(told_PX[p, start], encoder.scaled(values_PF)[p, f]))
    assert len(losses) > 5
    assert found.item() == pytest.approx(torch.stack(losses).mean().item(), abs=1e-12)


def test_the_loss_of_hidden_observations_is_that_of_a_loop():
    encoder: Any = build_encoder(SERIES, settings().model, 0).double()
    encoder.mean_I[:], encoder.std_I[:] = torch.tensor([1.0, 2.0]), torch.tensor([2.0, 0.5])
    hidden = encoder.hidden_values().double()
    rng = np.random.default_rng(0)
    patient_O = torch.arange(4).repeat_interleave(5)
    time_O, value_O = (torch.from_numpy(rng.uniform(0, 24, size=20)) for _ in range(2))
    item_O = torch.from_numpy(rng.integers(2, size=20))
    torch.manual_seed(5)
    found = hidden(SeriesBatch(time_O, item_O, value_O, patient_O, 4))
    torch.manual_seed(5)
    hides_O = (torch.rand(20, dtype=torch.float64) < HIDDEN).tolist()
    kept = [o for o in range(20) if not hides_O[o]]
    tokens_PlD = encoder(SeriesBatch(time_O[kept], item_O[kept], value_O[kept], patient_O[kept], 4))
    told_PIT = hidden.head(tokens_PlD.flatten(1)).view(4, 2, 5)
    losses = []
    for o in (o for o in range(20) if hides_O[o]):
        p, i, t = int(patient_O[o]), int(item_O[o]), float(time_O[o]) / 24
        terms = torch.tensor([1, t, t * t, np.sin(2 * np.pi * t), np.cos(2 * np.pi * t)], dtype=torch.float64)
        z = ((value_O[o] - (1, 2)[i]) / (2, 0.5)[i]).clamp(-8, 8)
        losses.append(functional.smooth_l1_loss((told_PIT[p, i] * terms).sum(), z))
    assert len(losses) > 2
    assert found.item() == pytest.approx(torch.stack(losses).mean().item(), abs=1e-12)


def test_a_hidden_number_is_told_from_another():
    """p = r in every patient: after learning, the error of a hidden one is far below its variance."""
    rng = np.random.default_rng(0)
    patients = cohort([1] * 200, of=CohortSchema(name="c", classes=("a", "b"), modalities=(TABLE,)))
    value_N = rng.normal(size=200).astype(np.float32)
    table = Table(np.stack([value_N, rng.integers(2, size=200).astype(np.float32), value_N], axis=1))
    patients = replace(patients, modalities={"t": table})
    given = config(**{ROUNDS: 30, "model.tokens": 1})
    model = SiteModel(patients.schema, given, ["t"])
    before = build_encoder(TABLE, given.model, given.seed).state_dict()
    pretrain(model, patients, given, 0)
    encoder: Any = model.encoders["t"]
    assert not torch.equal(encoder.state_dict()["weight_lPD"], before["weight_lPD"])
    with torch.no_grad():  # what the tokens say of p where p is hidden: a least-squares reading of half of the patients
        hidden = torch.from_numpy(table.values_NF.copy())
        hidden[:, 0] = torch.nan
        tokens_ND = encoder(hidden).flatten(1)
        after = _unexplained(tokens_ND, torch.from_numpy(value_N))
    assert after < 0.2


def _unexplained(x_ND: torch.Tensor, y_N: torch.Tensor) -> float:
    """Share of the variance of the second half that a linear reading fitted on the first half leaves."""
    design = torch.cat([x_ND, torch.ones(len(x_ND), 1)], dim=1).double()
    fit = torch.linalg.lstsq(design[:100], y_N[:100, None].double()).solution
    return float(((design[100:] @ fit)[:, 0] - y_N[100:]).square().mean() / y_N[100:].var())


def test_labels_and_held_out_patients_do_not_matter_and_a_seed_gives_one_result():
    patients = cohort([7] * 40)
    one = weights(patients)
    assert not differ(one, weights(replace(patients, label_N=1 - patients.label_N)))
    held_out = np.flatnonzero(patients.split_N != TRAIN)
    table = contents(patients, "a")
    values_NF = table.values_NF.copy()
    values_NF[held_out, 0] += 5
    assert not differ(one, weights(replace(patients, modalities={**patients.modalities, "a": Table(values_NF)})))
    assert {name.partition(".")[0] for name in differ(one, weights(patients, seed=1))} == {"a", "b", "c"}


def test_one_modality_does_not_depend_on_another():
    patients = cohort([7] * 40)
    both, alone = weights(patients), weights(patients.without("b"))
    assert not {name for name in differ(both, alone) if not name.startswith("b.")}


def test_patients_without_a_label_count_but_not_those_who_are_tested():
    patients, others = cohort([7] * 40), cohort([7] * 30, seed=1)
    others = replace(others, label_N=np.full(30, -1), split_N=None)
    assert len(learners(replace(patients, split_N=np.full(40, TRAIN, dtype=np.int8)))) == 40
    plain = weights(patients)
    assert differ(plain, weights(replace(patients, unlabelled=others)))
    tested = patients.person_N[patients.split_N == TEST][:1]
    same_person = replace(others, person_N=np.repeat(tested, 30))
    assert not differ(plain, weights(replace(patients, unlabelled=same_person)))
    of_test = replace(others, split_N=np.full(30, TEST, dtype=np.int8))
    assert not differ(plain, weights(replace(patients, unlabelled=of_test)))


def test_everybody_is_drawn_once_before_anybody_again():
    rows = np.arange(10, 20)
    drawn = list(draws(rows, config(**{"train.batch": 4}), 0))
    assert [len(step) for step in drawn] == [4] * 30
    assert sorted(np.concatenate(drawn)[:10].tolist()) == rows.tolist()


def test_a_cohort_of_pictures_alone_is_refused():
    schema = CohortSchema(name="eyes", classes=("a", "b"), modalities=(ImageSchema(name="i", size=(8, 8), channels=1),))
    with pytest.raises(UserError, match=r"pretraining-rounds = 3: cohort eyes has image, .* set it to 0"):
        fusion_of(schema, config(**{"model.encoders.image-weights": "random"}))
