"""Language models of transformers, by name on the hub or by folder: tokenizer and encoder.

Shapes: P patients, T positions of the longest note in the batch, d width.
"""

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from remind.config import EncoderConfig
from remind.data.cohort.problems import listed
from remind.encoders.pretrained import SECTION, ask_hub, first_line
from remind.errors import UserError, several

T = TypeVar("T")


class Tokenizer:
    """Notes → the model's tokens, truncated to `length` with special tokens."""

    def __init__(self, tokenizer: Any, length: int) -> None:
        self.tokenizer, self.length = tokenizer, length
        alone = tokenizer("a")["input_ids"]
        self.first = tokenizer.cls_token_id is not None and alone[0] == tokenizer.cls_token_id
        self.padding = next((n for n in (tokenizer.pad_token_id, tokenizer.eos_token_id) if n is not None), 0)

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return tokens (P, T), int64, and False where a position is padding, bool."""
        found = self.tokenizer(list(texts), truncation=True, max_length=self.length)["input_ids"]
        numbers = [torch.tensor(one or [self.padding]) for one in found]  # an empty note is one token of padding
        number_PT = pad_sequence(numbers, batch_first=True, padding_value=self.padding)
        count_P = torch.tensor([len(one) for one in numbers])
        return number_PT, torch.arange(number_PT.shape[1]) < count_P[:, None]


class LastLayer(nn.Module):
    """A language model up to its last hidden states."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    @property
    def table(self) -> nn.Module:
        """The embedding that the reader's numbers index."""
        net: Any = self.net
        found: nn.Module = net.get_input_embeddings()
        return found

    def forward(self, number_PT: Tensor, valid_PT: Tensor) -> Tensor:
        """Return a vector per position, (P, T, d)."""
        out: Tensor = self.net(input_ids=number_PT, attention_mask=valid_PT.long()).last_hidden_state
        return out


def language_model(config: EncoderConfig) -> tuple[Tokenizer, LastLayer, int]:
    """Return tokenizer, backbone and d of the model that the user named.

    Only the encoder of a model is kept, without decoder and pooler.

    Raises
    ------
    UserError
        The model does not exist, is not available, is not a text encoder, or its weights do not fit.
    """
    from transformers import AutoConfig, AutoModel

    name = _folder_or_name(config.text)
    described: Any = _had(config, name, "config.json", AutoConfig.from_pretrained)
    if not isinstance(width := getattr(described, "hidden_size", None), int):
        raise UserError(f"{_about(config.text)}: no encoder of text alone; choose another model")
    tokenizer: Any = _had(config, name, "tokenizer", _tokenizer)
    if len(tokenizer) > getattr(described, "vocab_size", len(tokenizer)):
        raise UserError(
            f"{_about(config.text)}: its tokenizer knows {len(tokenizer)} tokens and the model {described.vocab_size}; "
            "they are not of one model"
        )
    if config.text_weights == "pretrained":
        options = {"dtype": torch.float32, "output_loading_info": True}
        whole, loading = _had(config, name, "weights", AutoModel.from_pretrained, **options)
    else:
        whole, loading = _fresh(config, described), {"missing_keys": []}
    net = whole.get_encoder() if isinstance(getattr(whole, "decoder", None), nn.Module) else whole
    if isinstance(getattr(net, "pooler", None), nn.Module):
        net.pooler = None
    _must_take_masks(config.text, net)
    _must_be_whole(config.text, net, dict(whole.named_parameters()), loading["missing_keys"])
    length = _length(config, described, tokenizer, net)
    return Tokenizer(tokenizer, length), LastLayer(net), width


def _about(name: str) -> str:
    return f"{SECTION}text = {name!r}"


def _folder_or_name(name: str) -> str:
    """Return a folder in the form that transformers accepts, or a name on the hub."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return str(folder)
    if name.startswith(("/", ".", "~")):
        raise UserError(f"{_about(name)}: no such folder; name a folder that holds config.json, or a model on the hub")
    return name


def _had(config: EncoderConfig, name: str, what: str, load: Callable[..., T], **options: Any) -> T:
    """Return the result of `load`: from the folder or the hub's cache, otherwise from the hub.

    Raises
    ------
    UserError
        The files do not exist and cannot be downloaded, or cannot be used.
    """
    from huggingface_hub import constants

    options["trust_remote_code"] = False
    try:
        return load(name, local_files_only=True, **options)
    except OSError as error:
        missing = error
    except Exception as error:  # any problem with a folder: an unknown type of model, a missing library
        raise UserError(f"{_about(config.text)}, its {what}: cannot be used: {first_line(error)}") from error
    ways_out = ["name a folder that holds config.json, tokenizer and weights", f"set {SECTION}text to words"]
    if what == "weights":
        ways_out.append(f"set {SECTION}text-weights to random")
    if Path(name).is_dir():
        why = f"{_about(config.text)}, its {what}: cannot be read: {first_line(missing)}. Either"
        raise several(why, ways_out) from missing
    there, why = ask_hub(name, ["config.json"])
    if there is not None:
        try:
            return load(name, **options)
        except Exception as error:  # a hub's client may raise anything
            raise UserError(f"{_about(config.text)}, its {what}: cannot be had: {first_line(error)}") from error
    folder = f"models--{name.replace('/', '--')}"
    raise several(
        f"{_about(config.text)}, its {what}: not in {constants.HF_HUB_CACHE}, and {why}. Either",
        [
            f"on a machine with internet run `hf download {name}`, and copy {folder} from its cache to the one here",
            *ways_out,
        ],
    )


def _tokenizer(name: str, **options: Any) -> Any:
    """Load the tokenizer. Reject one without vocabulary, which transformers creates silently if files are missing."""
    from transformers import AutoTokenizer

    made: Any = AutoTokenizer.from_pretrained(name, **options)
    if len(made) - len(made.all_special_tokens) < 2:
        raise FileNotFoundError("there is no vocabulary")
    return made


def _fresh(config: EncoderConfig, described: Any) -> nn.Module:
    """Return the model with random weights."""
    from transformers import AutoModel

    auto: Any = AutoModel
    try:
        model: nn.Module = auto.from_config(described, dtype=torch.float32, trust_remote_code=False)
    except ValueError as error:
        raise UserError(f"{_about(config.text)}: cannot be built: {first_line(error)}") from error
    return model


def _must_take_masks(name: str, net: nn.Module) -> None:
    """Reject a model without attention masks: it would read padding as words."""
    if "attention_mask" not in inspect.signature(net.forward).parameters:
        raise UserError(f"{_about(name)}: takes no attention mask, so notes of a batch would mix; choose another model")


def _must_be_whole(name: str, net: nn.Module, parameters: dict[str, nn.Parameter], missing: Sequence[str]) -> None:
    """Reject missing weights in the kept part of the model, because transformers replaces them with random numbers."""
    kept = {id(p) for p in net.parameters()}
    if absent := sorted(n for n in missing if n in parameters and id(parameters[n]) in kept):
        raise UserError(
            f"{_about(name)}: {len(absent)} of its tensors are not in its weights: {listed(absent, 4)}; name a folder "
            f"with weights of this model, or set {SECTION}text-weights to random"
        )


def _length(config: EncoderConfig, described: Any, tokenizer: Any, net: nn.Module) -> int:
    """Return how many tokens of a note are read: the least of the user's, the tokenizer's and the model's limits."""
    positions = getattr(described, "max_position_embeddings", None)
    for path, module in net.named_modules():
        if path.endswith("position_embeddings") and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            positions = module.num_embeddings - module.padding_idx - 1  # RoBERTa counts positions from there
    stated = [n for n in (positions, tokenizer.model_max_length) if n is not None and n > 0]
    length = min(config.text_length, *map(int, stated)) if stated else config.text_length
    if length <= (special := tokenizer.num_special_tokens_to_add()):
        raise UserError(
            f"{SECTION}text-length = {config.text_length}: the {special} special tokens of {config.text} alone take "
            f"that; give at least {special + 1}"
        )
    return length
