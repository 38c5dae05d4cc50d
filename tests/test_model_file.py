"""Models on the disk: read as written, or not at all."""

from contextlib import suppress

import pytest
import torch
from safetensors.torch import save_file

from remind.errors import UserError
from remind.model_file import digest_of, load_model, save_model

TENSORS = {
    "a": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "b": torch.tensor(1.5, dtype=torch.bfloat16),
    "c": torch.arange(4).reshape(2, 2).t(),
    "empty": torch.zeros(0, 3),
}
SAID = {"round": "2", "seed": "0"}


def test_a_model_comes_back_with_what_is_said_of_it(tmp_path):
    save_model(tmp_path / "m", TENSORS, SAID)
    tensors, said = load_model(tmp_path / "m")
    assert said == SAID
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in TENSORS.items())


def test_every_flipped_bit_is_noticed(tmp_path):
    save_model(tmp_path / "m", TENSORS, SAID)
    content = (tmp_path / "m").read_bytes()
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 << (place % 8)
        (tmp_path / "m").write_bytes(changed)
        with suppress(UserError):
            tensors, said = load_model(tmp_path / "m")
            assert said == SAID, f"byte {place}"
            assert digest_of(tensors) == digest_of(TENSORS), f"byte {place}: padding of the header alone may change"


def test_what_is_said_of_a_model_is_part_of_its_digest(tmp_path):
    save_model(tmp_path / "m", TENSORS, SAID)
    tensors, _ = load_model(tmp_path / "m")
    save_file(tensors, tmp_path / "m", metadata={**SAID, "round": "9", "sha256": digest_of(tensors, SAID)})
    with pytest.raises(UserError, match=r"m: was changed since it was written.*; ask for it again"):
        load_model(tmp_path / "m", "ask for it again")


def test_a_file_of_before_is_taken_as_it_is(tmp_path):
    save_file({"a": TENSORS["a"]}, tmp_path / "m", metadata=SAID)
    assert torch.equal(load_model(tmp_path / "m")[0]["a"], TENSORS["a"])


@pytest.mark.parametrize("content", [b"", b"no model", None])
def test_what_is_no_model(tmp_path, content):
    if content is not None:
        (tmp_path / "m").write_bytes(content)
    with pytest.raises(UserError, match="cannot be read"):
        load_model(tmp_path / "m")
