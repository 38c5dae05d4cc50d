"""Tiny language models in folders, made by the test."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    GPT2Config,
    GPT2Model,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5ForConditionalGeneration,
)

WORDS = ["the", "patient", "has", "no", "fever", "chest", "pain", "since", "two", "days", "left", "lung", "clear", "."]
SPECIAL = ["<pad>", "<unk>", "<s>", "</s>"]
VOCABULARY = {word: i for i, word in enumerate(SPECIAL + WORDS)}
SMALL: dict[str, Any] = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "pad_token_id": 0,
}


def save_tokenizer(folder: Path, template: str | None, **options) -> None:
    made = Tokenizer(models.WordLevel(VOCABULARY, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    if template is not None:
        used = [(token, VOCABULARY[token]) for token in ("<s>", "</s>") if token in template]
        made.post_processor = processors.TemplateProcessing(single=template, special_tokens=used)
    PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", **options).save_pretrained(folder)


def bert(folder: Path, **options) -> Path:
    """Like BERT as it is published: trained to fill gaps, so without a pooler."""
    torch.manual_seed(0)
    BertForMaskedLM(BertConfig(**SMALL, max_position_embeddings=16)).save_pretrained(folder)
    save_tokenizer(folder, "<s> $A </s>", cls_token="<s>", sep_token="</s>", pad_token="<pad>", **options)
    return folder


def roberta(folder: Path) -> Path:
    """Counts its positions from behind the number of the padding."""
    torch.manual_seed(0)
    RobertaModel(RobertaConfig(**SMALL | {"pad_token_id": 1}, max_position_embeddings=12)).save_pretrained(folder)
    save_tokenizer(folder, "<s> $A </s>", cls_token="<s>", sep_token="</s>", pad_token="<unk>")
    return folder


def t5(folder: Path) -> Path:
    """Encoder and decoder, no token for the whole."""
    torch.manual_seed(0)
    small: dict[str, Any] = {
        "vocab_size": len(VOCABULARY),
        "d_model": 12,
        "d_kv": 4,
        "d_ff": 16,
        "num_layers": 2,
        "num_heads": 2,
    }
    small["decoder_start_token_id"] = 0
    T5ForConditionalGeneration(T5Config(**small, pad_token_id=0)).save_pretrained(folder)
    save_tokenizer(folder, "$A </s>", eos_token="</s>", pad_token="<pad>")
    return folder


def gpt2(folder: Path) -> Path:
    """No special tokens at all, not even for padding."""
    torch.manual_seed(0)
    small: dict[str, Any] = {"vocab_size": len(VOCABULARY), "n_embd": 12, "n_layer": 2, "n_head": 2, "n_positions": 16}
    GPT2Model(GPT2Config(**small, bos_token_id=2, eos_token_id=3)).save_pretrained(folder)
    save_tokenizer(folder, None, eos_token="</s>")
    return folder


def with_pooler(folder: Path) -> Path:
    torch.manual_seed(0)
    BertModel(BertConfig(**SMALL, max_position_embeddings=16)).save_pretrained(folder)
    save_tokenizer(folder, "<s> $A </s>", cls_token="<s>", sep_token="</s>", pad_token="<pad>")
    return folder
