"""The vault returns what was stored, and refuses everything else."""

import io
import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from remind.errors import UserError
from remind.training.token_cache import cache_key
from remind_client.vault.errors import VaultError
from remind_client.vault.key import VaultKey, key_from_environment, key_from_file, new_key_file, parse_key
from remind_client.vault.rotate import rotate, seal, unreadable
from remind_client.vault.stream import CHUNK, HEADER_BYTES, TAG, Sealer, opened, sealed_size
from remind_client.vault.tokens import SealedTokenCache
from remind_client.vault.vault import PlainVault, SealedVault, sealed_with
from tests.builders.cohorts import schema

KEY, OTHER = VaultKey(bytes(range(32))), VaultKey(bytes(32))


def sealed(plain: bytes, name: str = "a", pieces: int = 1) -> bytes:
    out = io.BytesIO()
    sealer = Sealer(out, KEY, name)
    for piece in np.array_split(np.frombuffer(plain, np.uint8), pieces):
        sealer.write(piece.tobytes())
    sealer.finish()
    return out.getvalue()


def unsealed(content: bytes, name: str = "a", *keys: VaultKey) -> bytes:
    return b"".join(opened(io.BytesIO(content), keys or [KEY], name, "file"))


@settings(max_examples=30, deadline=None)
@given(
    st.one_of(
        st.integers(0, 3000),
        st.integers(-2, 2).map(lambda d: CHUNK + d),
        st.integers(-1, 1).map(lambda d: 2 * CHUNK + d),
    ),
    st.integers(1, 5),
)
def test_round_trip_at_every_boundary(size, pieces):
    plain = np.random.default_rng(size).bytes(size)
    content = sealed(plain, pieces=pieces)
    assert unsealed(content) == plain
    assert len(content) == sealed_size(size)
    assert size < 20 or plain[:20] not in content


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_changed_bit_is_an_error(data):
    content = bytearray(sealed(b"weights" * 20))
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(VaultError):
        unsealed(bytes(content))


@pytest.mark.parametrize("size", [0, 10, CHUNK, CHUNK + 10, 2 * CHUNK])
def test_a_file_that_was_cut_or_grew_is_an_error(size):
    content = sealed(bytes(size))
    ends = {0, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + CHUNK + TAG, len(content) - TAG, len(content) - 1}
    for end in (e for e in ends if e < len(content)):
        with pytest.raises(VaultError):
            unsealed(content[:end])
    with pytest.raises(VaultError):
        unsealed(content + b"x")
    with pytest.raises(VaultError):
        unsealed(content + content[HEADER_BYTES:])


def test_chunks_in_another_order_are_an_error():
    content = sealed(np.random.default_rng(0).bytes(3 * CHUNK))
    head, body = content[:HEADER_BYTES], content[HEADER_BYTES:]
    step = CHUNK + TAG
    first, second, third = body[:step], body[step : 2 * step], body[2 * step :]
    assert unsealed(head + first + second + third)
    for shuffled in (second + first + third, first + third, first + first + third, third + second + first):
        with pytest.raises(VaultError):
            unsealed(head + shuffled)


def test_another_name_another_key_or_another_files_chunks_are_an_error():
    content = sealed(b"weights")
    with pytest.raises(VaultError, match="moved"):
        unsealed(content, "b")
    with pytest.raises(VaultError, match=OTHER.id.hex() + "|does not have"):
        unsealed(content, "a", OTHER)
    with pytest.raises(VaultError):
        unsealed(content[:HEADER_BYTES] + sealed(b"weights")[HEADER_BYTES:])


def test_no_two_files_share_a_salt():
    """Nonces repeat between files; keys must not."""
    assert len({sealed(b"same")[16:48] for _ in range(50)}) == 50


def test_a_writer_that_fails_leaves_the_file_as_it_was(tmp_path):
    for vault in (PlainVault(), SealedVault(tmp_path, [KEY])):
        path = tmp_path / f"{type(vault).__name__}.bin"
        vault.write(path, lambda out: out.write(b"before"))

        def fail(out):
            out.write(b"after")
            raise RuntimeError

        with pytest.raises(RuntimeError):
            vault.write(path, fail)
        assert vault.read(path) == b"before"
        assert [p.name for p in tmp_path.glob("*partial")] == []


def test_torch_files_and_mappings_survive_the_vault(tmp_path):
    state = {"weights": torch.arange(300_000.0), "step": torch.tensor(3)}
    for vault in (PlainVault(), SealedVault(tmp_path, [KEY])):
        path = tmp_path / "state.pt"
        vault.write(path, lambda out: torch.save(state, out))
        with vault.open(path) as clear:
            kept = torch.load(clear, weights_only=True, mmap=True)
            mapped = np.memmap(clear, np.uint8, "r")
            size = os.path.getsize(clear)
        assert mapped.size == size, "a mapping outlives the context"
        assert all(torch.equal(kept[name], state[name]) for name in state)
    assert path.stat().st_mode & 0o777 == 0o600


def test_nothing_in_clear_ever_touches_the_disk(tmp_path):
    vault, secret = SealedVault(tmp_path, [KEY]), b"Anna Smith" * 1000
    path = tmp_path / "x"

    def write(out):
        out.write(secret)
        assert all(b"Anna" not in p.read_bytes() for p in tmp_path.iterdir())

    vault.write(path, write)
    with vault.open(path) as clear:
        assert clear.read_bytes() == secret
        assert all(b"Anna" not in p.read_bytes() for p in tmp_path.iterdir())


def test_a_file_moved_within_the_vault_does_not_open(tmp_path):
    vault = SealedVault(tmp_path, [KEY])
    (tmp_path / "run-1").mkdir()
    (tmp_path / "run-2").mkdir()
    vault.write(tmp_path / "run-1" / "state.pt", lambda out: out.write(b"1"))
    (tmp_path / "run-1" / "state.pt").rename(tmp_path / "run-2" / "state.pt")
    with pytest.raises(VaultError, match="moved"):
        vault.read(tmp_path / "run-2" / "state.pt")


def writes(text):
    return lambda out: out.write(text.encode())


def test_rotation_moves_every_file_and_can_be_repeated(tmp_path):
    old, new = SealedVault(tmp_path, [KEY]), SealedVault(tmp_path, [OTHER])
    for name in ("a", "b", "c"):
        old.write(tmp_path / name, writes(name))
    new.write(tmp_path / "b", lambda out: out.write(b"b"))  # as after a crash half-way
    (tmp_path / "clear").write_bytes(b"clear")
    assert list(unreadable(tmp_path, OTHER)) == [
        f"{tmp_path / 'a'} is encrypted with key {KEY.id.hex()}",
        f"{tmp_path / 'c'} is encrypted with key {KEY.id.hex()}",
        f"{tmp_path / 'clear'} is not encrypted",
    ]
    moved = rotate(tmp_path, KEY, OTHER)
    assert (moved.written, moved.kept) == (2, 2)
    assert [new.read(tmp_path / name) for name in ("a", "b", "c")] == [b"a", b"b", b"c"]
    assert rotate(tmp_path, KEY, OTHER).written == 0
    assert seal(tmp_path, OTHER).written == 1
    assert new.read(tmp_path / "clear") == b"clear"
    assert not list(unreadable(tmp_path, OTHER))


def test_rotation_stops_at_a_damaged_file_and_loses_nothing(tmp_path):
    vault = SealedVault(tmp_path, [KEY])
    vault.write(tmp_path / "a", lambda out: out.write(b"a"))
    damaged = bytearray((tmp_path / "a").read_bytes())
    damaged[-1] ^= 1
    (tmp_path / "a").write_bytes(damaged)
    with pytest.raises(VaultError):
        rotate(tmp_path, KEY, OTHER)
    assert (tmp_path / "a").read_bytes() == bytes(damaged)


def test_keys_from_files_and_environment(tmp_path, monkeypatch):
    made = new_key_file(tmp_path / "key")
    assert key_from_file(tmp_path / "key") == made
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    with pytest.raises(UserError, match="never overwritten"):
        new_key_file(tmp_path / "key")
    (tmp_path / "key").chmod(0o644)
    with pytest.raises(UserError, match="chmod 600"):
        key_from_file(tmp_path / "key")
    monkeypatch.setenv("K", made.secret.hex())
    assert key_from_environment("K") == made
    monkeypatch.delenv("K")
    with pytest.raises(UserError, match="not set"):
        key_from_environment("K")
    with pytest.raises(UserError, match="cannot read"):
        key_from_file(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["", "secret", "00" * 31, "zz" * 32, "AAAA", "é" * 64])
def test_what_is_no_key_is_refused_without_being_repeated(text):
    with pytest.raises(UserError) as caught:
        parse_key(text, "source")
    assert not text or text not in str(caught.value)


def test_a_key_is_not_shown_by_its_repr():
    assert repr(KEY.secret) not in repr(KEY)
    assert KEY.secret.hex() not in repr(KEY)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_cached_tokens_rest_encrypted(tmp_path, dtype):
    cache = SealedTokenCache(tmp_path / "tokens", SealedVault(tmp_path, [KEY]))
    key, shape = cache_key("encoder", schema().modalities[0], "contents", dtype), (7, 3, 5)
    assert cache.find("a", key, shape, dtype) is None
    with cache.writing({"a": (key, shape), "none": (key, (0, 3, 5))}, dtype) as tokens:
        tokens["a"].copy_(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
        expected = tokens["a"].clone()
    found = cache.find("a", key, shape, dtype)
    assert found is not None
    assert torch.equal(found, expected)
    assert cache.find("none", key, (0, 3, 5), dtype).shape == (0, 3, 5)
    [path, _] = sorted((tmp_path / "tokens").iterdir())
    assert sealed_with(path) == KEY.id
    newer = cache_key("another", schema().modalities[0], "contents", dtype)
    with cache.writing({"a": (newer, shape)}, dtype) as tokens:
        tokens["a"].zero_()
    assert cache.find("a", key, shape, dtype) is None, "stale ones are gone"
