"""PEPSY against a loop; controls are matched across hospitals, independently of their order."""

import itertools

import pytest
import torch

from remind.config import Config, Scalar
from remind.errors import UserError
from remind.federation.blocks import Unpacked
from remind.fusion.pepsy import Pepsy, matched
from remind.secure_settings import require_summable
from remind.training.site_model import fusion_of
from remind_server.rounds.strategy import FedRemind
from tests.builders.cohorts import cohort
from tests.builders.configs import BASE
from tests.builders.fusions import context, cross_entropy, model, noisy, patients
from tests.builders.grids import WireGrid
from tests.builders.observers import Recorder
from tests.builders.sites import site
from tests.fusion.loops import loop_linear, loop_norm, loop_perceptron, loop_softmax

GROUPS = (5, 2, 7, 5, 1, 6)
LABEL = torch.tensor([0, 1, 2, 0, 1, 2])


def small(options="controls = 6, top-k = 2, temperature = 0.3, pull = 0.7"):
    return noisy(model("pepsy", context(), options=options).double())


def loop(fusion, batch, b):
    """Logits and the mean cosine of the selected keys."""
    h = [t[b].mean(dim=0) * batch.presence[b, i] for i, t in enumerate(batch.tokens)]
    z = loop_perceptron(fusion.encode, torch.cat(h))
    keys, controls = fusion.controls_NK[:, :8], fusion.controls_NK[:, 8:]
    near = [float((z @ k / (z.norm() * k.norm())).detach()) for k in keys]
    best = sorted(range(len(near)), key=lambda n: -near[n])[:2]
    w = loop_softmax(torch.tensor([near[n] / 0.3 for n in best], dtype=torch.float64))
    told = sum(w[j] * controls[n] for j, n in enumerate(best))
    r = 1 + loop_perceptron(fusion.reconfigure, torch.cat([z, told]))
    return loop_linear(fusion.head, loop_norm(fusion.norm, z * r)), sum(near[n] for n in best) / 2


def test_equals_the_loop_and_the_pull_is_the_selected_keys():
    fusion, batch = small().train(), patients(context(), GROUPS, dtype=torch.float64)
    output = batch.given_to(fusion)
    for b in range(len(GROUPS)):
        logits, near = loop(fusion, batch, b)
        torch.testing.assert_close(output.logits_BC[b], logits, rtol=0, atol=1e-9)
        assert output.auxiliary_B[b].item() == pytest.approx(0.7 * (1 - near), abs=1e-9)


def test_the_pull_moves_selected_keys_alone():
    fusion, batch = small().train(), patients(context(), (5,), dtype=torch.float64)
    batch.given_to(fusion).auxiliary_B.sum().backward()
    moved = fusion.controls_NK.grad.abs()
    assert int((moved[:, :8].sum(dim=1) > 0).sum()) == 2
    assert not moved[:, 8:].any()
    assert all(p.grad is None for n, p in fusion.named_parameters() if n != "controls_NK")


def test_a_patient_who_selects_no_control_does_not_train_it():
    fusion, batch = small("controls = 6, top-k = 1").train(), patients(context(), (5,), dtype=torch.float64)
    batch.given_to(fusion).loss(LABEL[:1], cross_entropy).sum().backward()
    assert int((fusion.controls_NK.grad.abs().sum(dim=1) > 0).sum()) == 1


# Across hospitals


def rows(seed, number=4, width=3):
    return torch.randn(number, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_what_is_common_is_found_whatever_its_order_at_each_hospital():
    common = 5 * rows(0)
    orders = [[0, 1, 2, 3], [2, 0, 3, 1], [3, 2, 1, 0]]
    shaken = [common[order] + 0.01 * rows(9 + i) for i, order in enumerate(orders)]
    found = matched(shaken, common + 0.5 * rows(20))
    torch.testing.assert_close(found, common, rtol=0, atol=0.05)
    plain = torch.stack(shaken).mean(dim=0)
    assert (plain - common).abs().max() > 1, "an average by position would not"


def test_the_assignment_is_the_best_of_all():
    before, reply = rows(1), rows(2)
    distances = {
        p: sum(float((before[n] - reply[p[n]]).square().sum()) for n in range(4))
        for p in itertools.permutations(range(4))
    }
    best = min(distances, key=distances.__getitem__)
    torch.testing.assert_close(matched([reply], before), reply[list(best)])


def test_the_order_of_hospitals_does_not_matter_and_those_alike_change_nothing():
    before, replies = rows(3), [rows(3) + 0.1 * rows(s) for s in (4, 5, 6)]
    torch.testing.assert_close(matched(replies, before), matched(replies[::-1], before))
    torch.testing.assert_close(matched([before, before], before), before)


def test_a_control_that_one_of_four_hospitals_tells_moves_as_far_as_that_hospital_moved_it():
    """Control 3 is that of a rare pattern; the other hospitals, who have none of it, tell the others."""
    before = rows(3)
    common = [before + 0.01 * rows(s) for s in (4, 5, 6)]
    rare = before[3:] + 0.01 * rows(7)[3:]
    found = matched([*(own[:3] for own in common), rare], before)
    torch.testing.assert_close(found[3:], rare)
    torch.testing.assert_close(found[:3], torch.stack(common).mean(dim=0)[:3])
    torch.testing.assert_close(matched([own[:3] for own in common], before)[3:], before[3:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_as_it_was_sent_is_not_told(dtype):
    """Also if numbers are rounded on the way, and for the model that the hospital was sent, not the common one."""
    before = rows(3).float()
    sent = [before, before + 1]
    replies = [one.to(dtype).clone() for one in sent]
    replies[0][1] += 0.25
    replies[1][2] += 0.25
    found = Pepsy.merge("controls_NK", list(zip(replies, sent, strict=True)), before)
    assert torch.equal(found[1], replies[0][1].float())
    assert torch.equal(found[2], replies[1][2].float())
    assert torch.equal(found[[0, 3]], before[[0, 3]])


@pytest.mark.parametrize("least", [1, 3, 7])
def test_a_hospital_tells_what_enough_of_its_patients_select(least):
    fusion, batch = small(), patients(context(), GROUPS, dtype=torch.float64)
    before = {"controls_NK": fusion.controls_NK.detach() + rows(8, 6, 16)}
    moved = fusion.controls_NK.detach().clone()
    number = [0] * 6
    for b in range(len(GROUPS)):
        h = [t[b].mean(dim=0) * batch.presence[b, i] for i, t in enumerate(batch.tokens)]
        z = loop_perceptron(fusion.encode, torch.cat(h))
        near = [float(torch.cosine_similarity(z, k, dim=0).detach()) for k in moved[:, :8]]
        for n in sorted(range(6), key=lambda n: -near[n])[:2]:
            number[n] += 1
    halves = [batch.take([0, 1, 2]), batch.take([3, 4, 5])]
    fusion.gather([(fusion.seen(p.tokens, p.presence), p.presence, LABEL[:3]) for p in halves], least, before)
    for n in range(6):
        assert torch.equal(fusion.controls_NK[n], moved[n] if number[n] >= least else before["controls_NK"][n])
    assert least == 7 or sum(one >= least for one in number) > 0


def test_a_hospital_that_receives_no_controls_keeps_its_own():
    fusion, batch = small(), patients(context(), GROUPS, dtype=torch.float64)
    own = fusion.controls_NK.detach().clone()
    fusion.gather([(fusion.seen(batch.tokens, batch.presence), batch.presence, LABEL)], 100, {})
    assert torch.equal(fusion.controls_NK, own)


@pytest.mark.parametrize("far", [0.1, 1e6])
def test_what_one_of_four_hospitals_tells_moves_a_summary_that_all_tell_by_no_more_than_a_quarter_of_it(far):
    """Each summary is the mean of one row of each: a false row of length r moves it by r/S and the honest spread."""
    before = rows(3)
    honest = [before + 0.01 * rows(s) for s in (4, 5, 6)]
    found = matched([*honest, before + far * rows(7)], before)
    spread = max(float((x - y).norm()) for x in before for y in before) + 0.2
    assert (found - before).norm(dim=1).max() <= (far * rows(7).norm(dim=1).max() + 3 * spread) / 4


MIXES = {"s1": [1] * 24, "s2": [6] * 24}
CONTROLS = "fusion.controls_NK"


def settings(**changes: Scalar) -> Config:
    method: dict[str, Scalar] = {
        "method.fusion": "pepsy(controls = 8, top-k = 1)",
        "method.rule": "lg",
        "method.objective": "erm",
    }
    return Config.from_flat(BASE | method | {"train.warmup-rounds": 1, "train.routing-rounds": 0} | changes)


def controls_of(report, buffer):
    """The controls of an answer."""
    return Unpacked(report.index, buffer)[CONTROLS].double()


def test_in_a_run_a_hospital_moves_the_controls_that_its_patients_select(tmp_path):
    config = settings()
    grid = WireGrid([site(n, cohort(m, i), config, tmp_path) for i, (n, m) in enumerate(MIXES.items())])
    recorder = Recorder()
    FedRemind(config, [recorder]).run(grid)
    one, other = (controls_of(report, buffer) for kind, report, buffer in grid.answers if kind == "train")
    before = fusion_of(recorder.start.schema, config).get_parameter("controls_NK").detach().double()
    found = recorder.models[-1][CONTROLS].double()
    first, second = ((told != before).any(dim=1) for told in (one, other))
    assert (first ^ second).any(), "some controls are of patients whom one hospital alone has"
    assert not (first | second).all(), "nobody selects some"
    expected = before.clone()
    expected[first] = one[first]
    expected[second] = other[second]
    expected[first & second] = ((one + other) / 2)[first & second]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-7)


def test_masked_rounds_refuse_it_by_name():
    changes: dict[str, Scalar] = {"federation.secure-aggregation": True, "train.select": "last"}
    with pytest.raises(UserError, match=r"(?s)pepsy.*what each site sends"):
        require_summable(settings(**changes))
