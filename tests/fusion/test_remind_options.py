"""Table 16's variants of REMIND: B_k fixed at 0, and sinusoidal initial Φ_k."""

import math

import pytest
import torch

from remind.config import ModelConfig
from remind.fusion.base import Context, build_fusion
from remind.fusion.remind import SINE_SHARE, fill_missing, sine_residual

CONFIG = ModelConfig(width=8, experts=4, slots=2, heads=2, expansion=2, dropout=0.0, gate="always", blocks=2)
CONTEXT = Context(model=CONFIG, classes=3, modalities=("a", "b", "c"), tokens=(3, 1, 2))
GROUPS = torch.tensor([5, 2, 7, 5])
PRESENCE = torch.tensor([[True, False, True], [False, True, False], [True, True, True], [True, False, True]])


def model(options="", groups=(2, 5, 7)):
    fusion = build_fusion(f"remind({options})", CONTEXT, seed=1)
    fusion.add_groups(groups, seed=1)
    return fusion.double().eval()


def tokens():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(4, n, 8, dtype=torch.float64, generator=generator) for n in (3, 1, 2)]


def test_the_options_change_nothing_else():
    plain = dict(model().named_parameters())
    for options in ("missing = 'zero'", "residual = 'sine'"):
        varied = dict(model(options).named_parameters())
        alike = {n for n in varied if not n.startswith("groups.")}
        assert alike == {n for n in plain if not n.startswith("groups.")}
        assert all(torch.equal(varied[n], plain[n]) for n in alike)
    sine = dict(model("residual = 'sine'").named_parameters())
    assert all(torch.equal(sine[n], plain[n]) for n in plain if n.endswith("missing_D"))


def test_missing_zero_has_no_embedding_and_is_the_model_whose_embeddings_are_zero():
    zero, learned = model("missing = 'zero'"), model()
    assert not any("missing" in name for name, _ in zero.named_parameters())
    with torch.no_grad():
        for own in learned.groups.values():
            if own.missing_D is not None:
                own.missing_D.zero_()
    given = tokens(), PRESENCE, GROUPS
    assert torch.equal(zero(*given).logits_BC, learned(*given).logits_BC)
    unseen = model("missing = 'zero'", groups=())
    assert torch.equal(unseen(*given, routing=False).logits_BC, zero(*given, routing=False).logits_BC)


def test_missing_zero_fills_with_zeros():
    z = tokens()
    filled_BMD = fill_missing(z, PRESENCE, torch.zeros(4, 8, dtype=torch.float64))
    assert not filled_BMD[0, 3:4].any()
    assert torch.equal(filled_BMD[0, :3], z[0][0])


def test_waves_are_those_of_the_formula():
    config, group = CONFIG, 5
    phi_LDES = sine_residual(group, config)
    phase = 2 * math.pi * (group * 0.6180339887498949 % 1)  # the golden ratio's fractional part
    for d in range(config.width):
        omega = 10000 ** (-2 * (d // 2) / config.width)
        for e in range(config.experts):
            for s in range(config.slots):
                wave = math.cos if d % 2 else math.sin
                expected = math.sqrt(2 / config.width) * SINE_SHARE * wave(omega * (e * config.slots + s) + phase)
                assert phi_LDES[:, d, e, s].tolist() == pytest.approx([expected] * config.blocks, abs=1e-6)


@pytest.mark.parametrize("width", [8, 64, 128])
def test_waves_have_a_tenth_of_the_shared_routers_size(width):
    config = CONFIG.model_copy(update={"width": width, "experts": 32})
    rms = sine_residual(9, config).square().mean().sqrt().item()
    assert rms * math.sqrt(width) == pytest.approx(SINE_SHARE, rel=0.05)


def test_waves_depend_on_the_group_alone_and_part_any_two():
    one, other = model("residual = 'sine'"), model("residual = 'sine'", groups=(7, 5))
    assert torch.equal(one.groups["5"].residual_LDES, other.groups["5"].residual_LDES)
    groups = [1, 2, 3, 4, 5, 6, 7, 255, 2**40 + 1, 2**61, 2**62 - 1]
    waves = torch.stack([sine_residual(k, CONFIG).flatten() for k in groups])
    assert waves.isfinite().all()
    apart = torch.pdist(waves) / waves.norm(dim=1).mean()
    assert apart.min() > 0.01


def test_waves_reach_the_output_in_stage_two_only():
    sine, plain, given = model("residual = 'sine'"), model(), (tokens(), PRESENCE, GROUPS)
    assert torch.equal(sine(*given, routing=False).logits_BC, plain(*given, routing=False).logits_BC)
    assert (sine(*given).logits_BC - plain(*given).logits_BC).abs().max() > 1e-4


@pytest.mark.parametrize("options", ["missing = 'zero'", "residual = 'sine'"])
def test_every_parameter_trains(options):
    fusion = model(options)
    fusion(tokens(), PRESENCE, GROUPS).logits_BC.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for _, p in fusion.named_parameters())
