"""Images → tokens, with small networks of timm."""

from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from remind.config import ModelConfig
from remind.data.cohort.kinds.pictures import ImageSchema
from remind.data.cohort.kinds.table import TableSchema
from remind.encoders import build_encoder, token_count
from remind.encoders.image import _look
from remind.errors import UserError
from tests.builders.encoders import config, image_encoder, means, pixels, without_gradient

VIT = "test_vit"  # a CLS token and patches of 16 × 16


SMALL_ONES = [
    ("test_resnet", (32, 32), 3),
    ("test_resnet", (96, 160), 1),
    (VIT, (32, 32), 3),
    (VIT, (64, 96), 1),
    ("test_vit4", (64, 64), 3),
]


@pytest.mark.parametrize(
    ("name", "size", "channels", "tokens"),
    [
        *((*one, tokens) for one in SMALL_ONES for tokens in (1, 3, 16)),
        ("resnet10t", (64, 64), 1, 16),  # large ones differ in their features, which are pooled like those above
        ("vit_tiny_patch16_224", (64, 32), 1, 3),
        ("convnext_atto", (64, 64), 1, 1),
        ("swin_tiny_patch4_window7_224", (64, 64), 3, 3),
    ],
)
def test_token_count_is_what_comes_out(name, size, channels, tokens):
    made = image_encoder(name, size, channels, tokens).eval()
    schema = ImageSchema(name="i", size=size, channels=channels)
    count = token_count(schema, config({"model.encoders.image": name, "model.tokens": tokens}))
    with torch.no_grad():
        assert made(pixels(2, channels, *size)).shape == (2, count, 8)
    assert 1 <= count <= tokens


@pytest.mark.parametrize(
    ("name", "tokens", "count"), [("vit_base_patch16_224", 16, 16), ("resnet50", 16, 16), ("resnet50", 100, 49)]
)
def test_known_backbones_give_known_numbers(name, tokens, count):
    schema = ImageSchema(name="i", size=(224, 224), channels=3)
    assert token_count(schema, config({"model.encoders.image": name, "model.tokens": tokens})) == count


def standardised(made, x: torch.Tensor) -> torch.Tensor:
    described = timm.get_pretrained_cfg(made.backbone.net.pretrained_cfg["architecture"])
    mean, std = torch.tensor(described.mean), torch.tensor(described.std)
    if x.shape[1] == 1:
        mean, std = mean.mean(0, keepdim=True), std.mean(0, keepdim=True)
    return (x - mean[:, None, None]) / std[:, None, None]


@pytest.mark.parametrize("channels", [1, 3])
def test_cls_token_is_kept_and_patches_are_pooled(channels):
    made = image_encoder(VIT, (64, 96), channels, tokens=7).eval()
    x = pixels(2, channels, 64, 96)
    with torch.no_grad():
        features = made.backbone.net.forward_features(standardised(made, x))
        out = made(x)
        assert features.shape[1] == 1 + 4 * 6
        torch.testing.assert_close(out[:, 0], made.adapter(features[:, 0]))
        maps = features[:, 1:].transpose(1, 2).reshape(2, -1, 4, 6)
        expected = torch.stack([made.adapter(means(one, (2, 3))) for one in maps])
        torch.testing.assert_close(out[:, 1:], expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_convolutional_map_is_pooled(channels):
    made = image_encoder("test_resnet", (160, 96), channels, tokens=6).eval()
    x = pixels(2, channels, 160, 96)
    with torch.no_grad():
        maps = made.backbone.net.forward_features(standardised(made, x))
        assert maps.shape[2:] == (5, 3)
        expected = torch.stack([made.adapter(means(one, (2, 3))) for one in maps])
        torch.testing.assert_close(made(x), expected)


def test_channels_that_come_last_are_put_where_they_belong():
    made = image_encoder("swin_tiny_patch4_window7_224", (64, 64), tokens=4).eval()
    x = pixels(1, 3, 64, 64)
    with torch.no_grad():
        map_1HWd = made.backbone.net.forward_features(standardised(made, x))
        assert map_1HWd.shape == (1, 2, 2, 768)
        torch.testing.assert_close(made(x)[0], made.adapter(map_1HWd[0].flatten(0, 1)))


@pytest.mark.parametrize(("tokens", "prefix", "cells"), [(16, 5, (3, 3)), (6, 5, (1, 1)), (5, 1, (2, 2)), (1, 1, ())])
def test_registers_give_way_to_the_picture(tokens, prefix, cells):
    look = _look("vit_small_patch14_reg4_dinov2", (224, 224), 3)
    assert look.layout(tokens) == (prefix, cells)


@pytest.mark.parametrize("name", ["test_resnet", VIT, "convnext_atto", "mobilenetv3_small_050"])
def test_gradients_reach_every_parameter(name):
    made = image_encoder(name, (64, 64), tokens=8).double()
    assert without_gradient(made, pixels(3, 3, 64, 64).double()) == []


def test_a_single_patient_can_train_on_a_map_of_one_pixel():
    made = image_encoder("test_resnet", (32, 32), channels=1).train()
    before = {name: b.clone() for name, b in made.named_buffers()}
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        made.backbone((pixels(1, 1, 32, 32) - made.mean_C11) / made.std_C11)
    made.load_state_dict(made.state_dict() | {n: b for n, b in before.items() if n in made.state_dict()})
    assert without_gradient(made, pixels(1, 1, 32, 32)) == []
    assert all(torch.equal(b, before[name]) for name, b in made.named_buffers()), "one patient is no batch"
    assert all(m.training for m in made.modules())
    made(pixels(2, 1, 32, 32))
    assert not all(torch.equal(b, before[name]) for name, b in made.named_buffers())


def test_patients_do_not_influence_each_other():
    made = image_encoder(VIT, (32, 32)).double().eval()
    x = pixels(5, 3, 32, 32).double()
    torch.testing.assert_close(made(x), torch.cat([made(x[i : i + 1]) for i in range(5)]))


@pytest.mark.parametrize("name", ["test_resnet", VIT])
def test_precisions(name):
    made = image_encoder(name, (64, 64)).eval()
    x = pixels(2, 3, 64, 64)
    with torch.no_grad():
        exact = made.double()(x.double())
        assert exact.dtype == torch.float64
        made.float()
        torch.testing.assert_close(made(x).double(), exact, rtol=1e-3, atol=1e-3)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(made(x).double(), exact, rtol=0.1, atol=0.1)


def test_the_same_at_every_site_for_the_same_seed():
    a = image_encoder("convnext_atto", seed=3)
    _look.cache_clear()
    torch.manual_seed(7)
    state = torch.get_rng_state()
    b, other = image_encoder("convnext_atto", seed=3), image_encoder("convnext_atto", seed=4)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert not all(torch.equal(p, q) for p, q in zip(a.parameters(), other.parameters(), strict=True))


def test_counting_tokens_draws_no_random_numbers():
    _look.cache_clear()
    state = torch.get_rng_state()
    token_count(ImageSchema(name="i", size=(64, 64), channels=3), config({"model.encoders.image": "test_resnet"}))
    assert torch.equal(torch.get_rng_state(), state)


def test_state_comes_back():
    made, other = image_encoder(seed=0), image_encoder(seed=1)
    x = pixels(2, 3, 64, 64)
    made(x)  # updates the statistics of the batch norms
    other.load_state_dict(made.state_dict())
    torch.testing.assert_close(made.eval()(x), other.eval()(x))


def test_the_backbone_can_be_had_by_itself():
    made = image_encoder()
    assert made.core() is made.backbone
    inside = {id(p) for p in made.core().parameters()}
    assert {n for n, p in made.named_parameters() if id(p) not in inside} == {"adapter.weight", "adapter.bias"}
    table = build_encoder(TableSchema(name="t", columns=("a",)), config({}), 0)
    assert table.core() is None


def test_fit_has_nothing_to_do():
    made = image_encoder()
    before = {n: t.clone() for n, t in made.state_dict().items()}
    made.fit(None)
    assert all(torch.equal(t, before[n]) for n, t in made.state_dict().items())


class TestMistakes:
    def test_a_name_that_timm_does_not_know(self):
        with pytest.raises(UserError, match=r"model.encoders.image = 'resnet50x'.*did you mean .*resnet50"):
            image_encoder("resnet50x")
        with pytest.raises(UserError, match="timm has no such network; choose another backbone, such as resnet50"):
            image_encoder("/@!")
        with pytest.raises(UserError, match=r"did you mean .*resnet10t\.c3_in1k"):
            image_encoder("resnet10t.c3_in2k")

    def test_a_size_that_does_not_fit(self):
        with pytest.raises(UserError, match=r"cannot take pictures of 30 × 64 .*choose another size in cohort.toml"):
            image_encoder(VIT, (30, 64))

    def test_a_network_without_a_map(self):
        with pytest.raises(UserError, match="neither a map nor a row of tokens"):
            image_encoder("coat_tiny", (64, 64))

    def test_weights_that_are_neither_a_word_nor_a_file(self, tmp_path):
        with pytest.raises(UserError, match=r"image-weights = 'yes': no such file; give pretrained, random or a file"):
            image_encoder(image_weights="yes")
        with pytest.raises(UserError, match="is a folder, not a file"):
            image_encoder(image_weights=str(tmp_path))


class TestFiles:
    """Weights from a file of the user."""

    @pytest.fixture
    def trained(self):
        """A classifier with weights that differ from any initialisation."""
        torch.manual_seed(5)
        net = timm.create_model("test_resnet", num_classes=7)
        for p in net.parameters():
            nn.init.normal_(p, std=0.1)
        return net

    @pytest.mark.parametrize("ending", [".safetensors", ".pth"])
    def test_are_loaded(self, trained, tmp_path, ending):
        path = tmp_path / f"weights{ending}"
        if ending == ".pth":
            torch.save({"state_dict": {f"module.{n}": t for n, t in trained.state_dict().items()}}, path)
        else:
            save_file(trained.state_dict(), path)
        made, random = image_encoder(image_weights=str(path)).eval(), image_encoder().eval()
        x = pixels(2, 3, 64, 64)
        assert not torch.allclose(made(x), random(x))
        expected = trained.eval().forward_features(standardised(made, x))
        torch.testing.assert_close(made.backbone((x - made.mean_C11) / made.std_C11), expected)
        assert torch.equal(made.adapter.weight, random.adapter.weight)

    def test_of_colours_are_loaded_for_grey(self, trained, tmp_path):
        save_file(trained.state_dict(), tmp_path / "w.safetensors")
        made = image_encoder(channels=1, image_weights=str(tmp_path / "w.safetensors"))
        first = trained.pretrained_cfg["first_conv"] + ".weight"
        colours = trained.state_dict()[first]
        torch.testing.assert_close(made.backbone.net.state_dict()[first], colours.sum(1, keepdim=True))

    def test_of_another_size_are_resampled(self, tmp_path):
        net: Any = timm.create_model(VIT, num_classes=0, img_size=(96, 96))
        save_file(net.state_dict(), tmp_path / "w.safetensors")
        made = image_encoder(VIT, (64, 64), image_weights=str(tmp_path / "w.safetensors"))
        assert made.backbone.net.pos_embed.shape[1] == 17
        assert torch.equal(made.backbone.net.blocks[0].attn.qkv.weight, net.blocks[0].attn.qkv.weight)

    def test_without_what_is_not_used_are_enough(self, tmp_path):
        net = timm.create_model("convnext_atto", num_classes=3)
        kept = {n: t for n, t in net.state_dict().items() if not n.startswith("head.")}
        save_file(kept, tmp_path / "w.safetensors")
        made = image_encoder("convnext_atto", image_weights=str(tmp_path / "w.safetensors"))
        assert set(made.backbone.net.state_dict()) == set(kept)

    def test_of_another_network_are_refused(self, tmp_path):
        save_file(timm.create_model(VIT).state_dict(), tmp_path / "w.safetensors")
        with pytest.raises(UserError, match=r"(?s)not the weights of test_resnet.*conv1.*the file has .*attn"):
            image_encoder(image_weights=str(tmp_path / "w.safetensors"))

    @pytest.mark.parametrize("lost", ["conv1.0.weight", "bn1.running_mean", "layer4.0.bn1.weight"])
    def test_with_a_hole_are_refused(self, trained, tmp_path, lost):
        names = trained.state_dict()
        assert lost in names, list(names)
        save_file({n: t for n, t in names.items() if n != lost}, tmp_path / "w.safetensors")
        with pytest.raises(UserError, match=f"1 of its .* tensors are not in the file: {lost}"):
            image_encoder(image_weights=str(tmp_path / "w.safetensors"))

    def test_of_other_shapes_are_refused(self, trained, tmp_path):
        state = trained.state_dict()
        save_file(state | {"layer4.0.bn1.weight": torch.ones(3)}, tmp_path / "w.safetensors")
        with pytest.raises(UserError, match=r"(?s)does not fit test_resnet.*size mismatch for layer4.0.bn1.weight"):
            image_encoder(image_weights=str(tmp_path / "w.safetensors"))

    def test_that_are_no_weights_are_refused(self, tmp_path):
        (tmp_path / "w.safetensors").write_bytes(b"nonsense")
        (tmp_path / "w.pth").write_bytes(b"nonsense")
        torch.save({"epoch": 3}, tmp_path / "e.pth")
        for name in ("w.safetensors", "w.pth"):
            with pytest.raises(UserError, match=f"{name}': cannot be read as weights"):
                image_encoder(image_weights=str(tmp_path / name))
        with pytest.raises(UserError, match="holds no tensors by name"):
            image_encoder(image_weights=str(tmp_path / "e.pth"))


def test_a_folder_that_timm_has_saved(tmp_path):
    from timm.models import save_for_hf

    net: Any = timm.create_model(VIT, num_classes=3, img_size=64, patch_size=8)
    save_for_hf(net, str(tmp_path), model_args={"img_size": 64, "patch_size": 8}, safe_serialization=True)
    made = image_encoder(f"local-dir:{tmp_path}", (64, 64), tokens=65, image_weights="pretrained")
    assert made(pixels(2, 3, 64, 64)).shape == (2, 65, 8)
    assert torch.equal(made.backbone.net.pos_embed, net.pos_embed)
    fresh = image_encoder(f"local-dir:{tmp_path}", (64, 64), image_weights="random")
    assert not torch.equal(fresh.backbone.net.pos_embed, net.pos_embed)
    with pytest.raises(UserError, match=r"there is no config\.json in "):
        image_encoder("local-dir:/nowhere")


def test_default_config_names_a_network_that_exists():
    schema = ImageSchema(name="i", size=(224, 224), channels=3)
    assert token_count(schema, ModelConfig()) == 16
