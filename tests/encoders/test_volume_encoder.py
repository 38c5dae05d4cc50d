"""Volumes and videos → tokens, with 3-D networks of torchvision and MONAI."""

import pytest
import torch
from monai.networks.nets.resnet import ResNetFeatures
from torch import nn
from torchvision.models.video import R3D_18_Weights, r3d_18

from remind.config import Scalar
from remind.data.cohort.kinds.pictures import VolumeSchema
from remind.encoders import token_count
from remind.encoders.pooling import grid
from remind.encoders.volume import RESNETS, _look
from remind.errors import UserError
from tests.builders.encoders import config, means, pixels, volume_encoder, without_gradient


@pytest.mark.parametrize(
    ("name", "size", "channels", "tokens", "count"),
    [
        ("r3d_18", (2, 16, 16), 1, 16, 1),
        ("r3d_18", (9, 32, 48), 3, 16, 12),
        ("r3d_18", (4, 40, 40), 1, 4, 4),
        ("resnet10", (32, 64, 64), 1, 16, 4),
        ("resnet18", (40, 40, 70), 1, 5, 4),
        ("vit", (16, 32, 32), 1, 16, 4),
        ("vit", (10, 24, 15), 3, 16, 2),
    ],
)
def test_token_count_is_what_comes_out(name, size, channels, tokens, count):
    made = volume_encoder(name, size, channels, tokens).eval()
    schema = VolumeSchema(name="v", size=size, channels=channels)
    changes: dict[str, Scalar] = {"model.encoders.volume": name, "model.tokens": tokens}
    assert token_count(schema, config(changes)) == count
    with torch.no_grad():
        assert made(pixels(2, channels, *size)).shape == (2, count, 8)


def test_the_papers_video_makes_sixteen_tokens():
    schema = VolumeSchema(name="v", kind="video", size=(16, 224, 224), channels=3)
    changes: dict[str, Scalar] = {"model.encoders.volume": "r3d_18", "model.tokens": 16}
    assert token_count(schema, config(changes)) == 16


@pytest.mark.parametrize("name", [RESNETS[0], "resnet50"])  # the two kinds of blocks; more of them change no size
def test_a_map_is_a_32nd_of_each_side(name):
    assert _look(name, (64, 100, 32), 1)[1] == (2, 4, 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_r3d_is_standardised_and_pooled(channels):
    made = volume_encoder("r3d_18", (9, 32, 48), channels, tokens=9).eval()
    x = pixels(2, channels, 9, 32, 48)
    with torch.no_grad():
        preset = R3D_18_Weights.KINETICS400_V1.transforms()
        colours = x.expand(-1, 3, -1, -1, -1)
        colours = torch.stack([(colours[:, c] - preset.mean[c]) / preset.std[c] for c in range(3)], dim=1)
        whole = r3d_18(weights=None).eval()
        whole.load_state_dict(made.backbone.state_dict(), strict=False)
        maps = whole.layer4(whole.layer3(whole.layer2(whole.layer1(whole.stem(colours)))))
        assert maps.shape[2:] == (2, 2, 3)
        expected = torch.stack([made.adapter(means(one, grid((2, 2, 3), 9))) for one in maps])
        torch.testing.assert_close(made(x), expected)


def test_vit_patches_lie_where_they_were():
    """A change in one corner of the volume changes that corner's patch most."""
    made = volume_encoder("vit", (16, 32, 48), tokens=6).eval()
    x = pixels(1, 1, 16, 32, 48)
    changed = x.clone()
    changed[..., 16:, 32:] = 1 - changed[..., 16:, 32:]
    with torch.no_grad():
        difference = (made(x) - made(changed)).norm(dim=2)[0]
    assert difference.argmax() == 5


class TestShortcut:
    """MONAI's shortcut of ResNet-18 and -34 passes no gradient; ours does and is otherwise the same."""

    def test_values_are_those_of_monai(self):
        made = volume_encoder("resnet18", (32, 32, 32)).eval()
        monai = ResNetFeatures("resnet18", pretrained=False, spatial_dims=3, in_channels=1).eval()
        monai.load_state_dict(made.backbone.net.state_dict())
        x = pixels(1, 1, 32, 32, 32)
        with torch.no_grad():
            torch.testing.assert_close(made.backbone(x), monai(x)[-1])

    @pytest.mark.parametrize("name", ["resnet10", "resnet18"])
    def test_gradient_is_the_slope(self, name):
        made = volume_encoder(name, (32, 32, 32)).double().eval()
        x, toward = pixels(1, 1, 32, 32, 32).double().requires_grad_(), pixels(1, 1, 32, 32, 32, seed=1).double()
        made(x).sum().backward()
        step = 1e-8  # small: rarely crosses the kink of a ReLU
        with torch.no_grad():
            slope = (made(x + step * toward).sum() - made(x - step * toward).sum()) / (2 * step)
        torch.testing.assert_close((x.grad * toward).sum(), slope, rtol=1e-4, atol=0)


@pytest.mark.parametrize(("name", "size"), [("r3d_18", (2, 32, 32)), ("resnet10", (32, 32, 32)), ("vit", (4, 16, 16))])
def test_gradients_reach_every_parameter(name, size):
    made = volume_encoder(name, size)
    assert without_gradient(made, pixels(2, 1, *size)) == []


@pytest.mark.parametrize("name", ["r3d_18", "resnet10"])
def test_a_single_patient_can_train_on_a_map_of_one_pixel(name):
    made = volume_encoder(name, (1, 16, 16)).train()
    before = {n: b.clone() for n, b in made.named_buffers()}
    made(pixels(1, 1, 1, 16, 16)).sum().backward()
    assert all(torch.equal(b, before[n]) for n, b in made.named_buffers()), "one patient is no batch"


def test_patients_do_not_influence_each_other():
    made = volume_encoder("resnet10", (16, 32, 32)).double().eval()
    x = pixels(3, 1, 16, 32, 32).double()
    with torch.no_grad():
        torch.testing.assert_close(made(x), torch.cat([made(x[i : i + 1]) for i in range(3)]))


@pytest.mark.parametrize(("name", "size"), [("r3d_18", (2, 16, 16)), ("vit", (4, 16, 16))])
def test_precisions(name, size):
    made = volume_encoder(name, size).eval()
    x = pixels(1, 1, *size)
    with torch.no_grad():
        exact = made.double()(x.double())
        assert exact.dtype == torch.float64
        made.float()
        torch.testing.assert_close(made(x).double(), exact, rtol=1e-3, atol=1e-3)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(made(x).double(), exact, rtol=0.1, atol=0.1)


def test_the_same_at_every_site_for_the_same_seed():
    a = volume_encoder("resnet10", seed=3)
    _look.cache_clear()
    torch.manual_seed(7)
    state = torch.get_rng_state()
    b, other = volume_encoder("resnet10", seed=3), volume_encoder("resnet10", seed=4)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(a.adapter.weight, other.adapter.weight)


def test_state_comes_back():
    made, other = volume_encoder("resnet10", seed=0), volume_encoder("resnet10", seed=1)
    x = pixels(2, 1, 32, 64, 64)
    with torch.no_grad():
        made(x)  # updates the statistics of the batch norms
        other.load_state_dict(made.state_dict())
        torch.testing.assert_close(made.eval()(x), other.eval()(x))


def light(net: nn.Module, value: float = 0.01) -> dict[str, torch.Tensor]:
    """A state dict of constants, which needs little space in a file."""
    return {
        n: torch.full((), value).expand(t.shape) if t.is_floating_point() else t for n, t in net.state_dict().items()
    }


class TestWeights:
    def test_of_kinetics_come_from_torchs_cache(self, tmp_path, monkeypatch):
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        published = R3D_18_Weights.KINETICS400_V1.url.rsplit("/", 1)[-1]
        (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
        torch.save(light(r3d_18(weights=None)), tmp_path / "hub" / "checkpoints" / published)
        made = volume_encoder("r3d_18", (2, 16, 16), volume_weights="pretrained")
        assert (made.backbone.stem[0].weight == 0.01).all()
        assert torch.equal(made.adapter.weight, volume_encoder("r3d_18", (2, 16, 16)).adapter.weight)

    def test_in_medicalnets_form_are_loaded(self, tmp_path):
        net = ResNetFeatures("resnet18", pretrained=False, spatial_dims=3, in_channels=1)
        torch.save({"state_dict": {f"module.{n}": t for n, t in light(net).items()}}, tmp_path / "w.pth")
        made = volume_encoder("resnet18", volume_weights=str(tmp_path / "w.pth"))
        assert all((p == 0.01).all() for p in made.backbone.parameters())

    def test_of_another_network_are_refused(self, tmp_path):
        torch.save(light(r3d_18(weights=None)), tmp_path / "w.pth")
        with pytest.raises(UserError, match=r"(?s)w.pth': not the weights of resnet10.*conv1\.weight.*stem\.0\.weight"):
            volume_encoder("resnet10", volume_weights=str(tmp_path / "w.pth"))

    def test_of_other_shapes_are_refused(self, tmp_path):
        net = ResNetFeatures("resnet10", pretrained=False, spatial_dims=3, in_channels=1)
        torch.save(light(net), tmp_path / "w.pth")
        message = r"(?s)other shapes.*conv1\.weight: \(64, 1, 7, 7, 7\), wanted \(64, 3, 7, 7, 7\)"
        with pytest.raises(UserError, match=message):
            volume_encoder("resnet10", channels=3, volume_weights=str(tmp_path / "w.pth"))

    @pytest.mark.parametrize("name", ["resnet10", "vit"])
    def test_of_monai_have_no_name(self, name):
        with pytest.raises(UserError, match=r"(?s)MONAI has no weights .*volume-weights to a file.*to random"):
            volume_encoder(name, (16, 16, 16), volume_weights="pretrained")


class TestMistakes:
    def test_a_name_that_nobody_knows(self):
        with pytest.raises(UserError, match=r"model.encoders.volume = 'resnet12': no such backbone; did you mean"):
            volume_encoder("resnet12")

    def test_more_patches_than_attention_can_bear(self):
        with pytest.raises(UserError, match="17 × 17 × 17 makes 4913 patches of 1 × 1 × 1, and 4096 is the most"):
            volume_encoder("vit", (17, 17, 17))
