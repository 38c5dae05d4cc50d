"""Sources of pretrained weights: caches, a hub that answers, one that does not, no network."""

import hashlib
import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from remind.data.cohort.kinds.text import TextBatch, TextSchema
from remind.encoders import build_encoder
from remind.encoders import pretrained as weights
from remind.errors import UserError
from tests.builders import language_models as language
from tests.builders.encoders import config, image_encoder, pixels

REVISION = "0123456789abcdef0123456789abcdef01234567"
TIMM_REPO = "timm/test_resnet.r160_in1k"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the hub, and of torch's."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "hub"


@pytest.fixture
def offline(cache, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return cache


class Hub:
    """A hub on this machine that serves `files` by path."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self._answer(False)

            def do_GET(self) -> None:
                self._answer(True)

            def _answer(self, with_body: bool) -> None:
                hub.asked.append(f"{self.command} {self.path}")
                body = hub.files.get(self.path)
                self.send_response(404 if body is None else 200)
                self.send_header("X-Repo-Commit", REVISION)
                if body is None:
                    known = any(path.startswith("/".join(self.path.split("/")[:3])) for path in hub.files)
                    self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
                else:
                    self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                if with_body and body:
                    self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def turn_to(address: str, monkeypatch) -> None:
    """Make the client use another hub."""
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")


@pytest.fixture
def hub(cache, monkeypatch):
    made = Hub()
    turn_to(made.address, monkeypatch)
    yield made
    made.close()


def put(cache: Path, repo: str, files: dict[str, bytes]) -> None:
    """Files in the layout of a finished download."""
    folder = cache / f"models--{repo.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(REVISION)
    (folder / "snapshots" / REVISION).mkdir(parents=True)
    for name, content in files.items():
        (folder / "snapshots" / REVISION / name).write_bytes(content)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A network of timm, and its published file."""
    torch.manual_seed(11)
    net = timm.create_model("test_resnet")
    path = tmp_path_factory.mktemp("published") / "model.safetensors"
    save_file(net.state_dict(), path)
    return net, path.read_bytes()


class TestHub:
    def test_what_is_cached_is_used_without_a_network(self, offline, published):
        net, content = published
        put(offline, TIMM_REPO, {"model.safetensors": content})
        made = image_encoder(image_weights="pretrained")
        assert torch.equal(made.backbone.net.conv1[0].weight, net.conv1[0].weight)
        assert torch.equal(made.adapter.weight, image_encoder().adapter.weight)
        assert not torch.equal(image_encoder().backbone.net.conv1[0].weight, net.conv1[0].weight)

    def test_what_is_cached_is_used_without_asking(self, hub, cache, published):
        put(cache, TIMM_REPO, {"model.safetensors": published[1]})
        image_encoder(image_weights="pretrained")
        assert hub.asked == []

    def test_what_is_not_is_fetched_once(self, hub, published):
        net, content = published
        hub.files[f"/{TIMM_REPO}/resolve/main/model.safetensors"] = content
        for channels in (3, 1):
            made = image_encoder(channels=channels, image_weights="pretrained")
        torch.testing.assert_close(made.backbone.net.conv1[0].weight, net.conv1[0].weight.sum(1, keepdim=True))
        assert hub.asked.count(f"GET /{TIMM_REPO}/resolve/main/model.safetensors") == 1

    def test_the_second_best_file_will_do(self, hub, published, tmp_path):
        torch.save(published[0].state_dict(), tmp_path / "w.bin")
        hub.files[f"/{TIMM_REPO}/resolve/main/pytorch_model.bin"] = (tmp_path / "w.bin").read_bytes()
        made = image_encoder(image_weights="pretrained")
        assert torch.equal(made.backbone.net.conv1[0].weight, published[0].conv1[0].weight)

    def test_a_revision_can_be_named(self, hub):
        hub.files["/a/b/resolve/v2/model.safetensors"] = b"two"
        assert weights.hub_file("x", "a/b@v2", ["model.safetensors"]).read_bytes() == b"two"

    def test_a_network_described_on_the_hub(self, hub, tmp_path):
        from timm.models import save_for_hf

        net: Any = timm.create_model("test_vit", num_classes=3, img_size=64)
        save_for_hf(net, str(tmp_path / "made"), model_args={"img_size": 64}, safe_serialization=True)
        for name in ("config.json", "model.safetensors"):
            hub.files[f"/someone/net/resolve/main/{name}"] = (tmp_path / "made" / name).read_bytes()
        made = image_encoder("hf-hub:someone/net", image_weights="pretrained")
        assert torch.equal(made.backbone.net.pos_embed, net.pos_embed)

    def test_a_cached_file_that_is_broken(self, offline):
        put(offline, TIMM_REPO, {"model.safetensors": b"nonsense"})
        with pytest.raises(UserError, match=r"model.safetensors cannot be loaded .*; remove it and fetch it again"):
            image_encoder(image_weights="pretrained")

    def test_a_model_that_the_hub_does_not_know(self, hub):
        with pytest.raises(UserError, match="the hub knows no such model, or shows it only to those"):
            weights.hub_file("x", "nobody/nothing", ["model.safetensors"])
        with pytest.raises(UserError, match="run `hf download nobody/nothing --revision v2`"):
            weights.hub_file("x", "nobody/nothing@v2", ["model.safetensors"])

    def test_a_file_that_the_hub_does_not_have(self, hub):
        hub.files["/a/b/resolve/main/README.md"] = b""
        with pytest.raises(UserError, match=r"a/b, file model\.safetensors, is not in .*the hub does not have it"):
            weights.hub_file("x", "a/b", ["model.safetensors", "pytorch_model.bin"])

    def test_a_name_that_no_hub_could_give(self, cache):
        with pytest.raises(UserError, match=r"image = 'hf-hub:a/b/c': Repo id must be"):
            image_encoder("hf-hub:a/b/c")

    def test_a_hub_that_is_not_there(self, cache, monkeypatch):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))  # bound and not listening: connections fail
            turn_to(f"http://127.0.0.1:{free.getsockname()[1]}", monkeypatch)
            with pytest.raises(UserError, match=r"the hub cannot be reached \(.*[Rr]efused"):
                image_encoder(image_weights="pretrained")

    def test_a_hub_that_never_answers(self, cache, monkeypatch):
        monkeypatch.setattr(weights, "TIMEOUT", 0.05)
        with socket.create_server(("127.0.0.1", 0)) as silent:
            turn_to(f"http://127.0.0.1:{silent.getsockname()[1]}", monkeypatch)
            with pytest.raises(UserError, match=r"the hub cannot be reached \(.*timed out"):
                image_encoder(image_weights="pretrained")
            silent.setblocking(False)
            silent.accept()[0].close()
            with pytest.raises(BlockingIOError):  # one attempt, no other
                silent.accept()

    def test_a_model_of_which_nobody_has_published_weights(self, offline):
        with pytest.raises(UserError, match=r"(?s)there are no published weights\. Either.*weights to a file"):
            image_encoder("densenet264d", image_weights="pretrained")


class TestTorchHub:
    """Files by their URL."""

    CONTENT = b"weights"
    NAME = f"net-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"

    def test_fetched_once(self, hub, tmp_path):
        hub.files[f"/{self.NAME}"] = self.CONTENT
        for _ in range(2):
            file = weights.torch_hub_file("x", f"{hub.address}/{self.NAME}")
            assert file == tmp_path / "torch" / "hub" / "checkpoints" / self.NAME
            assert file.read_bytes() == self.CONTENT
        assert hub.asked == [f"HEAD /{self.NAME}", f"GET /{self.NAME}"]

    def test_what_comes_must_be_what_was_published(self, hub):
        hub.files[f"/{self.NAME}"] = b"something else"
        with pytest.raises(UserError, match=r"cannot be downloaded \(invalid hash value"):
            weights.torch_hub_file("x", f"{hub.address}/{self.NAME}")
        hub.files[f"/{self.NAME}"] = self.CONTENT
        assert weights.torch_hub_file("x", f"{hub.address}/{self.NAME}").read_bytes() == self.CONTENT

    def test_what_is_not_there(self, hub):
        with pytest.raises(UserError, match=r"net.pth is not there, and it cannot be downloaded \(.*404"):
            weights.torch_hub_file("x", f"{hub.address}/net.pth")


class TestLanguageModels:
    @pytest.fixture
    def files(self, tmp_path):
        folder = language.bert(tmp_path / "made")
        return {file.name: file.read_bytes() for file in folder.iterdir()}

    def encoder(self, **changes):
        named = {f"model.encoders.{key.replace('_', '-')}": value for key, value in changes.items()}
        made = build_encoder(TextSchema(name="n"), config({"model.encoders.text": "some/bert"} | named), 0)
        return made.eval()

    def test_cached_ones_are_used_without_asking(self, hub, cache, files):
        put(cache, "some/bert", files)
        assert self.encoder()(TextBatch(("fever",))).shape == (1, 4, 8)
        assert hub.asked == []

    def test_of_which_only_the_weights_are_cached(self, offline, files):
        """transformers would make a tokenizer without words."""
        put(offline, "some/bert", {n: c for n, c in files.items() if not n.startswith("tokenizer")})
        with pytest.raises(UserError, match=r"its tokenizer: not in .*, and HF_HUB_OFFLINE is set"):
            self.encoder()

    def test_random_ones_need_no_weights(self, offline, files):
        put(offline, "some/bert", {n: c for n, c in files.items() if n != "model.safetensors"})
        self.encoder(text_weights="random")
        with pytest.raises(UserError, match=r"(?s)its weights: not in .*hf download some/bert.*text-weights to random"):
            self.encoder()

    def test_unknown_ones(self, hub):
        with pytest.raises(UserError, match=r"(?s)'some/bert'.*the hub knows no such model.*text to words"):
            self.encoder()


OFFLINE = """
from remind.config import Config
from remind.data.cohort.kinds.pictures import ImageSchema, VolumeSchema
from remind.data.cohort.kinds.text import TextSchema
from remind.encoders import build_encoder
from remind.errors import UserError

for schema in (
    ImageSchema(name="i", size=(224, 224), channels=3),
    VolumeSchema(name="v", kind="video", size=(4, 32, 32), channels=3),
    TextSchema(name="n"),
):
    try:
        build_encoder(schema, Config.from_flat({"model.encoders.text": "bert-base-uncased"}).model, 0)
    except UserError as error:
        print(error, end="\\n\\n")
"""


@pytest.mark.slow
def test_one_message_says_what_is_missing_and_what_to_do(tmp_path):
    """The defaults on a machine without internet access and with empty caches."""
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "TORCH_HOME": str(tmp_path / "torch")
    }  # fmt: skip
    environment.pop("HF_HUB_CACHE", None)
    ran = subprocess.run([sys.executable, "-c", OFFLINE], env=environment, capture_output=True, text=True, check=True)
    image, volume, text = ran.stdout.strip().split("\n\n")
    assert image.splitlines() == [
        "model.encoders.image = 'resnet10t': timm/resnet10t.c3_in1k, file model.safetensors, is not in "
        f"{tmp_path}/hf/hub, and HF_HUB_OFFLINE is set. Either",
        "  - on a machine with internet run `hf download timm/resnet10t.c3_in1k`, and copy "
        "models--timm--resnet10t.c3_in1k from its cache to the one here",
        "  - set model.encoders.image-weights to a file of its weights",
        "  - set model.encoders.image-weights to random",
    ]
    first, *rest = volume.splitlines()
    assert first.startswith("model.encoders.volume = 'r3d_18': ")
    assert f"{tmp_path}/torch/hub/checkpoints/r3d_18-b3b3357e.pth is not there" in first
    assert "download https://" in rest[0]
    assert rest[1:] == [
        "  - set model.encoders.volume-weights to a file of its weights",
        "  - set model.encoders.volume-weights to random",
    ]
    assert text.startswith("model.encoders.text = 'bert-base-uncased', its config.json: not in ")
    assert "`hf download bert-base-uncased`" in text


BUILD_TWICE = """
import torch
from remind.config import Config
from remind.data.cohort.kinds.codes import CodesSchema
from remind.data.cohort.kinds.pictures import ImageSchema, VolumeSchema
from remind.data.cohort.kinds.text import TextSchema
from remind.encoders import build_encoder

settings = {"image": "test_vit", "volume": "resnet10", "image-weights": "random", "volume-weights": "random"}
config = Config.from_flat({f"model.encoders.{key}": value for key, value in settings.items()}).model
for schema in (
    ImageSchema(name="i", size=(32, 32), channels=1),
    VolumeSchema(name="v", size=(16, 16, 16), channels=1),
    TextSchema(name="n"),
    CodesSchema(name="c"),
):
    before = torch.get_rng_state()
    first, second = (build_encoder(schema, config, 5) for _ in range(2))  # the first imports, and finds no cache
    assert torch.equal(torch.get_rng_state(), before), schema
    for (name, a), b in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b), (schema, name)
"""


@pytest.mark.slow
def test_imports_take_nothing_from_the_randomness():
    subprocess.run([sys.executable, "-c", BUILD_TWICE], check=True)


def test_importing_the_encoders_imports_no_backbones():
    heavy = "{'timm', 'torchvision', 'monai', 'transformers', 'huggingface_hub'}"
    code = f"import sys, remind.encoders; print(*({heavy} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []


def test_weights_change_what_comes_out(published, offline):
    put(offline, TIMM_REPO, {"model.safetensors": published[1]})
    x = pixels(2, 3, 64, 64)
    assert not torch.allclose(image_encoder(image_weights="pretrained")(x), image_encoder()(x))
