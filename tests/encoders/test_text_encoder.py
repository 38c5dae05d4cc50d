"""Notes → tokens: language models made by the test, and the encoder over hashed words."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, FNetConfig, FNetModel, T5EncoderModel

from remind.data.cohort.kinds.text import TextBatch, TextSchema
from remind.encoders import build_encoder, token_count
from remind.encoders.base import patches
from remind.encoders.word_transformer import START, WordReader, WordTransformer, sinusoids
from remind.errors import UserError
from tests.builders import language_models as language
from tests.builders.encoders import config, without_gradient

NOTES = (
    "the patient has no fever . chest clear .",
    "",
    "fever",
    "the patient has chest pain since two days . left lung clear . no fever .",
    "pain since two",
)
MODELS = {"bert": language.bert, "roberta": language.roberta, "t5": language.t5, "gpt2": language.gpt2}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {name: make(tmp_path_factory.mktemp(name)) for name, make in MODELS.items()}


def encoder(text="words", tokens=4, seed=0, **changes):
    named = {"model.encoders.text": str(text), "model.tokens": tokens, "model.encoders.buckets": 64}
    named |= {f"model.encoders.{key.replace('_', '-')}": value for key, value in changes.items()}
    return build_encoder(TextSchema(name="n"), config(named), seed).eval()


@pytest.fixture(params=["words", *MODELS])
def text(request, folders):
    """A model by name or folder."""
    return folders.get(request.param, request.param)


def slow(made, note: str) -> torch.Tensor:
    """A note by itself, without padding; means by a loop over its runs."""
    number_1T, valid_1T = made.reader((note,))
    assert valid_1T.all()
    h_Td = made.backbone(number_1T, valid_1T)[0]
    alone = [h_Td[0]] if made.reader.first else []
    rest, places = h_Td[len(alone) :], made.tokens - len(alone)
    runs = patches(len(rest), places) if len(rest) and places else []
    rows = [made.adapter(h_d) for h_d in [*alone, *(rest[run].mean(0) for run in runs)]]
    return torch.stack([*rows, *made.empty_lD[len(rows) :]])


@pytest.mark.parametrize("tokens", [1, 2, 5, 16])
def test_a_batch_is_what_each_note_is_alone(text, tokens):
    made = encoder(text, tokens).double()
    with torch.no_grad():
        out = made(TextBatch(NOTES))
        assert out.shape == (5, tokens, 8)
        assert token_count(TextSchema(name="n"), config({"model.tokens": tokens})) == tokens
        torch.testing.assert_close(out, torch.stack([slow(made, note) for note in NOTES]))
        for i, note in enumerate(NOTES):
            torch.testing.assert_close(made(TextBatch((note,)))[0], out[i])


def test_a_note_moves_the_rows_that_the_encoder_says_and_no_others(text):
    made = encoder(text, 8).double()
    ((name, (row_R, patient_R)),) = made.rows(TextBatch(NOTES)).items()
    for i, note in enumerate(NOTES):
        made.zero_grad()
        made(TextBatch((note,))).square().sum().backward()
        moved = set((made.get_parameter(name).grad != 0).any(dim=1).nonzero().flatten().tolist())
        said = set(row_R[patient_R == i].tolist())
        assert moved <= said
        assert said - moved <= {language.SMALL["pad_token_id"]}, "padding has no gradient"


def test_gradients_reach_every_parameter(text):
    made = encoder(text, 8).double()
    assert without_gradient(made, TextBatch(NOTES)) == []


def test_empty_notes_alone(text):
    made = encoder(text)
    assert torch.isfinite(made(TextBatch(("", "  ")))).all()


def test_what_is_beyond_the_length_is_not_read(text):
    made = encoder(text, text_length=6)
    long, longer = "the patient has no fever since two days", "the patient has no fever . left lung clear"
    with torch.no_grad():
        torch.testing.assert_close(made(TextBatch((long[:24],))), made(TextBatch((longer[:24],))))
        a, b = made(TextBatch((long, longer)))
    specials = {"bert": 2, "roberta": 2, "t5": 1, "words": 1}
    kept = 6 - next((n for name, n in specials.items() if name in str(text)), 0)
    assert torch.equal(a, b) == (kept <= 5)


def test_order_of_words_matters(text):
    made = encoder(text)
    a, b = made(TextBatch(("no fever chest pain", "no pain chest fever")))
    assert not torch.allclose(a, b)


def test_half_precision_by_autocast(text):
    made = encoder(text)
    with torch.no_grad():
        exact = made(TextBatch(NOTES))
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(made(TextBatch(NOTES)).float(), exact, rtol=0.1, atol=0.1)


def test_the_same_at_every_site_for_the_same_seed(text):
    state = torch.get_rng_state()
    a, b, other = (encoder(text, seed=seed, text_weights="random") for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(a.adapter.weight, other.adapter.weight)
    assert any(not torch.equal(p, q) for p, q in zip(a.backbone.parameters(), other.backbone.parameters(), strict=True))


def test_state_comes_back(text):
    made, other = encoder(text, seed=0), encoder(text, seed=1)
    assert not torch.allclose(made(TextBatch(NOTES)), other(TextBatch(NOTES)))
    other.load_state_dict(made.state_dict())
    torch.testing.assert_close(made(TextBatch(NOTES)), other(TextBatch(NOTES)))
    assert made.core() is made.backbone


class TestLanguageModels:
    def test_the_first_token_is_cls_where_there_is_one(self, folders):
        first = {name: encoder(folder).reader.first for name, folder in folders.items()}
        assert first == {"bert": True, "roberta": True, "t5": False, "gpt2": False}

    def test_pretrained_is_what_the_folder_holds(self, folders):
        a, b = encoder(folders["bert"], seed=0), encoder(folders["bert"], seed=1)
        stored = load_file(folders["bert"] / "model.safetensors")
        name = "embeddings.word_embeddings.weight"
        assert torch.equal(a.backbone.net.state_dict()[name], stored[f"bert.{name}"])
        assert all(torch.equal(p, q) for p, q in zip(a.backbone.parameters(), b.backbone.parameters(), strict=True))
        random = encoder(folders["bert"], text_weights="random")
        assert not torch.equal(random.backbone.net.state_dict()[name], stored[f"bert.{name}"])
        assert torch.equal(random.adapter.weight, a.adapter.weight), "whatever was drawn for the backbone"

    def test_only_the_encoder_of_t5_is_kept(self, folders, tmp_path):
        made = encoder(folders["t5"])
        assert not any("decoder" in name for name in made.state_dict())
        (tmp_path / "half").mkdir()
        T5EncoderModel.from_pretrained(folders["t5"]).save_pretrained(language.t5(tmp_path / "half"))
        alone = encoder(tmp_path / "half")
        torch.testing.assert_close(alone(TextBatch(NOTES)), made(TextBatch(NOTES)))

    def test_a_pooler_that_is_not_used_is_left_out(self, tmp_path):
        made = encoder(language.with_pooler(tmp_path))
        assert not any("pooler" in name for name in made.state_dict())

    def test_halved_weights_are_computed_with_as_whole_ones(self, folders, tmp_path):
        stored = load_file(language.bert(tmp_path) / "model.safetensors")
        save_file({n: t.half() for n, t in stored.items()}, tmp_path / "model.safetensors", {"format": "pt"})
        made = encoder(tmp_path)
        assert {p.dtype for p in made.parameters()} == {torch.float32}

    @pytest.mark.parametrize(("name", "length"), [("bert", 16), ("roberta", 10), ("gpt2", 16), ("t5", 512)])
    def test_no_more_is_read_than_there_are_positions(self, folders, name, length):
        made = encoder(folders[name])
        assert made.reader.length == length
        assert made(TextBatch(("fever " * 600,))).shape == (1, 4, 8)

    def test_nor_more_than_the_tokenizer_allows(self, tmp_path):
        assert encoder(language.bert(tmp_path, model_max_length=9)).reader.length == 9


class TestMistakes:
    def test_a_length_that_leaves_no_word(self, folders):
        with pytest.raises(UserError, match=r"text-length = 2: the 2 special tokens of .* give at least 3"):
            encoder(folders["bert"], text_length=2)

    def test_a_folder_that_is_not_there(self):
        with pytest.raises(UserError, match="text = '/nowhere/bert': no such folder"):
            encoder("/nowhere/bert")

    def test_a_choice_of_weights_that_is_none(self, text):
        with pytest.raises(UserError, match="text-weights = 'yes': give pretrained or random"):
            encoder(text, text_weights="yes")

    @pytest.mark.parametrize(
        ("lost", "what"), [("config.json", "config.json"), ("tokenizer", "tokenizer"), ("model.safetensors", "weights")]
    )
    def test_a_folder_that_lacks_something(self, tmp_path, lost, what):
        for file in list(language.bert(tmp_path).iterdir()):
            if file.name.startswith(lost):
                file.unlink()
        with pytest.raises(UserError, match=f"its {what}: cannot be"):
            encoder(tmp_path)
        if what == "weights":
            encoder(tmp_path, text_weights="random")

    def test_weights_with_a_hole(self, tmp_path):
        stored = load_file(language.bert(tmp_path) / "model.safetensors")
        lost = "bert.encoder.layer.0.attention.self.query.weight"
        save_file({n: t for n, t in stored.items() if n != lost}, tmp_path / "model.safetensors", {"format": "pt"})
        with pytest.raises(UserError, match=r"1 of its tensors are not in its weights: encoder\.layer\.0\.attention"):
            encoder(tmp_path)

    def test_weights_of_other_shapes(self, tmp_path):
        stored = load_file(language.bert(tmp_path) / "model.safetensors")
        name = "bert.embeddings.word_embeddings.weight"
        save_file(stored | {name: torch.zeros(3, 12)}, tmp_path / "model.safetensors", {"format": "pt"})
        with pytest.raises(UserError, match=r"its weights: cannot be used: .*"):
            encoder(tmp_path)

    def test_a_tokenizer_of_another_model(self, tmp_path):
        language.bert(tmp_path)
        file = tmp_path / "config.json"
        file.write_text(file.read_text().replace('"vocab_size": 18', '"vocab_size": 17'))
        with pytest.raises(UserError, match="its tokenizer knows 18 tokens and the model 17"):
            encoder(tmp_path)

    def test_a_model_without_masks(self, tmp_path):
        FNetModel(FNetConfig(**language.SMALL, max_position_embeddings=16)).save_pretrained(language.bert(tmp_path))
        with pytest.raises(UserError, match="takes no attention mask, so notes of a batch would mix"):
            encoder(tmp_path)

    def test_a_model_of_pictures_too(self, tmp_path):
        CLIPConfig().save_pretrained(language.bert(tmp_path))
        with pytest.raises(UserError, match="no encoder of text alone"):
            encoder(tmp_path)

    def test_a_model_of_something_else(self, tmp_path):
        (tmp_path / "config.json").write_text('{"model_type": "toaster"}')
        with pytest.raises(UserError, match=r"its config\.json: cannot be used: .*toaster"):
            encoder(tmp_path)


class TestWords:
    @given(st.text(alphabet=st.characters(codec="utf-8"), max_size=200), st.integers(1, 40))
    def test_any_text_can_be_read(self, note, length):
        row_1T, valid_1T = WordReader(32, length)((note,))
        assert row_1T.shape == valid_1T.shape
        assert 1 <= row_1T.shape[1] <= length
        assert row_1T[0, 0] == START
        assert ((row_1T[0, 1:] >= 1) & (row_1T[0, 1:] <= 32)).all()

    def test_words_numbers_and_nothing_else(self):
        read = WordReader(10**9, 512)
        a, b = (read((note,))[0].tolist() for note in ("Fever: 38.5 °C, no PAIN!", "fever 38.5 c no pain"))
        assert a == b
        assert len(a[0]) == 6
        assert read(("38.5",))[0].tolist() != read(("38 5",))[0].tolist()
        assert read(("Übelkeit",))[0].tolist() == read(("übelkeit",))[0].tolist()

    def test_a_word_is_the_same_row_in_every_process(self):
        assert WordReader(8192, 9)(("fever 38.5",))[0].tolist() == [[START, 77, 5411]]

    def test_places_are_told_apart(self):
        place_TD = sinusoids(512, 8)
        assert torch.cdist(place_TD, place_TD).fill_diagonal_(1).min() > 1e-3
        assert place_TD[3, :2].tolist() == pytest.approx([math.sin(3), math.cos(3)])
        assert place_TD[3, 2:4].tolist() == pytest.approx([math.sin(0.3), math.cos(0.3)])

    def test_layers_do_not_begin_alike(self):
        backbone: Any = WordTransformer(config({}))
        first, second = (layer.linear1.weight for layer in backbone.layers)
        assert not torch.equal(first, second)

    def test_dropout_is_that_of_the_model(self):
        made = build_encoder(TextSchema(name="n"), config({"model.dropout": 0.5}), 0)
        torch.manual_seed(0)
        assert not torch.allclose(made.train()(TextBatch(NOTES)), made(TextBatch(NOTES)))
