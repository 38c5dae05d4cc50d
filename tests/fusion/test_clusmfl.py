"""ClusMFL against loops; the pool contains all hospitals' centres, each of enough patients; a run trains with it."""

import math

import pytest
import torch

from remind.config import Config, Scalar
from remind.errors import UserError
from remind.fusion.clusmfl import MOST_RMS, ClusMFL
from remind.fusion.finch import centres
from remind.secure_settings import require_summable
from remind_server.rounds.strategy import FedRemind
from tests.builders.cohorts import cohort
from tests.builders.configs import BASE
from tests.builders.fusions import CLASSES, context, cross_entropy, model, noisy, patients
from tests.builders.grids import WireGrid
from tests.builders.observers import Recorder
from tests.builders.sites import site
from tests.fusion.loops import loop_linear, loop_norm, loop_softmax

GROUPS = (5, 2, 7, 5, 1, 6)
LABEL = torch.tensor([0, 1, 2, 0, 1, 2])


def pooled(options="pool = 4, temperature = 0.3"):
    """A model whose pool has 3, 2 and 1 centres of the labels, and none of label 2 in the last modality."""
    fusion = noisy(model("clusmfl", context(), options=options).double())
    with torch.no_grad():
        for c, number in enumerate((3, 2, 1)):
            fusion.pool_mCPD[:, c, number:] = 0
        fusion.pool_mCPD[2, 2] = 0
    return fusion


def in_pool(fusion, i, c):
    return [p for p in fusion.pool_mCPD[i, c].detach() if p.abs().sum() > 0]


def cosine(x, y):
    return float(x @ y / (x.norm() * y.norm()))


def means(batch, b):
    return {i: z[b].mean(dim=0) for i, z in enumerate(batch.tokens) if batch.presence[b, i]}


def loop_logits(fusion, h, stand_in):
    f = [h[j] if j in h else stand_in(j) for j in range(3)]
    return loop_linear(fusion.head, torch.cat([loop_norm(fusion.norm, x) for x in f]))


def mean_of(fusion, j, c):
    found = in_pool(fusion, j, c)
    return sum(found) / len(found) if found else fusion.placeholder_mD[j]


def test_a_prediction_is_the_loops():
    fusion, batch = pooled(), patients(context(), GROUPS, dtype=torch.float64)
    logits = batch.given_to(fusion).logits_BC
    for b in range(len(GROUPS)):
        h = means(batch, b)
        fit = []
        for c in range(CLASSES):
            of = [[cosine(x, p) / 0.3 for p in in_pool(fusion, i, c)] for i, x in h.items()]
            fit.append(sum(sum(s) / len(s) if s else 0.0 for s in of) / len(h))
        q = loop_softmax(torch.tensor(fit, dtype=torch.float64))
        expected = loop_logits(fusion, h, lambda j, q=q: sum(q[c] * mean_of(fusion, j, c) for c in range(CLASSES)))
        torch.testing.assert_close(logits[b], expected, rtol=0, atol=1e-9)


def test_training_draws_a_centre_of_the_patients_own_label():
    """With one centre per label the draw is deterministic, and the loss with its contrast equals the loop's."""
    fusion = pooled("pool = 1, temperature = 0.3, contrast = 0.7").train()
    with torch.no_grad():
        fusion.pool_mCPD.copy_(torch.randn(fusion.pool_mCPD.shape, generator=torch.Generator().manual_seed(3)))
    batch = patients(context(), GROUPS, dtype=torch.float64)
    loss = batch.given_to(fusion).loss(LABEL, cross_entropy)
    for b in range(len(GROUPS)):
        h, y = means(batch, b), int(LABEL[b])
        logits = loop_logits(fusion, h, lambda j, y=y: mean_of(fusion, j, y))
        contrast = 0.0
        for i, x in h.items():
            score = [math.exp(cosine(x, p) / 0.3) for c in range(CLASSES) for p in in_pool(fusion, i, c)]
            own = [math.exp(cosine(x, p) / 0.3) for p in in_pool(fusion, i, y)]
            contrast += -sum(math.log(s / sum(score)) for s in own) / len(own) / len(h)
        expected = cross_entropy(logits.unsqueeze(0), LABEL[b : b + 1]).item() + 0.7 * contrast
        assert loss[b].item() == pytest.approx(expected, abs=1e-9)


def test_draws_are_of_filled_rows_and_all_of_them_come_up():
    fusion = pooled().train()
    filled = fusion.pool_mCPD.abs().sum(dim=3) > 0
    drawn_BCmD = fusion._drawn(fusion.pool_mCPD.detach(), filled, 200)
    for i in range(3):
        for c in range(CLASSES):
            expected = in_pool(fusion, i, c) or [fusion.placeholder_mD[i]]
            seen = {tuple(x.tolist()) for x in drawn_BCmD[:, c, i]}
            assert seen == {tuple(x.tolist()) for x in expected}


def test_an_empty_pool_adds_no_contrast_and_leaves_the_placeholder():
    fusion = model("clusmfl", context()).double().train()
    batch = patients(context(), GROUPS, dtype=torch.float64)
    output = batch.given_to(fusion)
    assert not output.contrast_BC.any()
    torch.testing.assert_close(output.of_label_BCC[:, 0], output.logits_BC)


def gathered(least, options="pool = 6, least = 3"):
    of = context()
    fusion, batch = model("clusmfl", of, options=options).double(), patients(of, (5, 7, 6, 3) * 30, dtype=torch.float64)
    label = torch.arange(120) % 4 % CLASSES
    fusion.gather([(fusion.seen(p.tokens, p.presence), p.presence, y) for p, y in halves(batch, label)], least, {})
    return fusion, batch, label


def halves(batch, label):
    return [(batch.take(range(a, a + 60)), label[a : a + 60]) for a in (0, 60)]


@pytest.mark.parametrize("least", [1, 8])
def test_a_site_sends_means_of_enough_patients_of_one_label_who_have_the_modality(least):
    fusion, batch, label = gathered(least)
    for i in range(3):
        for c in range(CLASSES):
            rows = batch.presence[:, i] & (label == c)
            expected = centres(batch.tokens[i][rows].mean(dim=1), 3, max(3, least))
            found = in_pool(fusion, i, c)
            assert len(found) == len(expected) <= 3
            assert all(torch.allclose(a, b) for a, b in zip(found, expected, strict=True))


def test_a_longer_centre_than_a_site_may_tell_is_shortened_in_its_direction():
    of = context()
    fusion, batch = model("clusmfl", of, options="pool = 6, least = 3").double(), patients(of, (7,) * 40)
    tokens, label = [100 * t.double() for t in batch.tokens], torch.zeros(40, dtype=torch.long)
    fusion.gather([(tokens, batch.presence, label)], 1, {})
    for i, z in enumerate(tokens):
        raw = centres(z.mean(dim=1), 3, 3)
        found = fusion.pool_mCPD[i, 0, : len(raw)]
        assert len(raw)
        assert (raw.square().mean(dim=1).sqrt() > MOST_RMS).all()
        torch.testing.assert_close(found.square().mean(dim=1).sqrt(), torch.full((len(raw),), MOST_RMS).double())
        assert all(cosine(a, b) == pytest.approx(1) for a, b in zip(found, raw, strict=True))
    for dtype in (torch.float32, torch.bfloat16):
        assert ClusMFL.beyond("pool_mCPD", fusion.pool_mCPD.detach().to(dtype)) == ""


def test_what_a_site_tells_within_the_bound_leaves_the_pool_within_it():
    before = torch.zeros(1, 1, 4, 3)
    told = before.clone()
    told[0, 0, :2] = torch.tensor([[MOST_RMS] * 3, [-MOST_RMS, MOST_RMS, MOST_RMS]])
    honest = before.clone()
    honest[0, 0, :2] = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])
    assert ClusMFL.beyond("pool_mCPD", told) == ""
    pool = ClusMFL.merge("pool_mCPD", [(reply, before) for reply in (honest, told, honest)], before)
    assert (pool.square().mean(dim=3).sqrt() <= MOST_RMS).all()
    told[0, 0, 2] = 1.0
    assert "3 centres" in (ClusMFL.beyond("pool_mCPD", told) or "")


def test_a_sample_is_of_all_patients_and_not_of_the_first_in_the_file():
    """The file is sorted: the first half of the patients have features around −5, the second half around 5."""
    of = context()
    batch = patients(of, (7,) * 120, dtype=torch.float64)
    tokens = [0.1 * t + torch.where(torch.arange(120) < 60, -5.0, 5.0)[:, None, None] for t in batch.tokens]
    label = torch.zeros(120, dtype=torch.long)
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        fusion = model("clusmfl", of, options="pool = 8, least = 2, sample = 60").double()
        fusion.gather([(tokens, batch.presence, label)], 1, {})
        found.append(fusion.pool_mCPD.detach())
        for i in range(3):
            signs = {float(centre.mean().sign()) for centre in in_pool(fusion, i, 0)}
            assert signs == {-1.0, 1.0}
    assert torch.equal(*found), "the same patients whenever it is drawn"


def test_too_few_patients_leave_no_centre():
    fusion, _, _ = gathered(least=100)
    assert not fusion.pool_mCPD.any()


def test_the_pool_is_everybodys_centres_and_forgets_nobody_who_is_silent():
    before = torch.zeros(1, 2, 4, 3)
    before[0, 1, 0] = 9.0
    one, other = torch.zeros_like(before), torch.zeros_like(before)
    one[0, 0, :2] = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])
    other[0, 0, :1] = torch.tensor([[0, 0, 1.0]])
    pool = ClusMFL.merge("pool_mCPD", [(one, before), (other, before)], before)
    assert pool[0, 0].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]
    assert torch.equal(pool[0, 1], before[0, 1])
    many = [(torch.randn(before.shape, generator=torch.Generator().manual_seed(s)), before) for s in range(3)]
    assert 1 <= int((ClusMFL.merge("pool_mCPD", many, before)[0, 0].abs().sum(dim=1) > 0).sum()) <= 4


# In a run

MIXES = {"s1": [1, 3, 3] * 12, "s2": [3, 6, 2] * 12}
POOL = "fusion.pool_mCPD"


def settings(**changes: Scalar) -> Config:
    method: dict[str, Scalar] = {"method.fusion": "clusmfl(pool = 4, least = 2)", "method.rule": "lg"}
    return Config.from_flat(BASE | method | {"method.objective": "erm", "train.warmup-rounds": 2} | changes)


@pytest.mark.parametrize("rule", ["lg", "fedavgm", "ditto", "local"])
def test_hospitals_send_their_centres_and_get_the_pool(rule, tmp_path):
    config = settings(**{"method.rule": rule})
    sites = [site(n, cohort(m, i), config, tmp_path) for i, (n, m) in enumerate(MIXES.items())]
    grid, recorder = WireGrid(sites), Recorder()
    FedRemind(config, [recorder]).run(grid)
    pool = recorder.models[-1].get(POOL)
    if rule == "local":
        assert pool is None
        pools = [one.store.kept()[POOL] for one in sites]
        assert all(own.any() for own in pools)
        return
    assert pool[1].any()  # both sites have modality b
    for one in sites:  # the finished models of both sites contain the pool
        assert torch.equal(one.store.model().tensors[POOL].float(), pool.float())
    assert torch.isfinite(pool).all()


def test_masked_rounds_refuse_it_by_name():
    changes: dict[str, Scalar] = {"federation.secure-aggregation": True, "train.select": "last"}
    with pytest.raises(UserError, match=r"(?s)clusmfl.*what each site sends"):
        require_summable(settings(**changes))
