"""Cached tokens in a vault: encrypted on the disk, unencrypted only in memory.

An encrypted cache cannot be memory-mapped: all of a site's tokens are in memory while they are used, P·l·D numbers per
modality. A hospital without enough memory can encrypt the disk instead and switch off the vault.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path

import torch
from torch import Tensor
from typing_extensions import override

from remind.training.token_cache import SUFFIX, Shape, TokenCache
from remind_client.vault.stream import sealed_size
from remind_client.vault.vault import SealedVault


class SealedTokenCache(TokenCache):
    """A `TokenCache` whose files are encrypted."""

    def __init__(self, folder: Path, vault: SealedVault) -> None:
        super().__init__(folder)
        self.vault = vault

    @override
    def find(self, name: str, key: str, shape: Shape, dtype: torch.dtype) -> Tensor | None:
        """Return cached tokens.

        Raises
        ------
        VaultError
            If the file is not what this site wrote.
        """
        path = self._path(name, key)
        size = prod(shape)
        if not size:
            return torch.empty(shape, dtype=dtype)
        if not path.is_file() or path.stat().st_size != sealed_size(size * dtype.itemsize):
            return None
        with self.vault.open(path) as clear:
            return torch.from_file(str(clear), shared=False, size=size, dtype=dtype).view(shape)

    @override
    @contextmanager
    def writing(self, wanted: Mapping[str, tuple[str, Shape]], dtype: torch.dtype) -> Iterator[dict[str, Tensor]]:
        """Return tensors to fill; they are in memory until the block ends."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tokens = {name: torch.empty(shape, dtype=dtype) for name, (_, shape) in wanted.items()}
        yield tokens
        for name, (key, shape) in wanted.items():
            path = self._path(name, key)
            raw = tokens[name].contiguous().view(-1).view(torch.uint8).numpy() if prod(shape) else b""
            self.vault.write(path, lambda out, raw=raw: out.write(raw))  # type: ignore[misc]
            for old in self.folder.glob(f"{name}-*{SUFFIX}"):
                if old != path and "-" not in old.name.removeprefix(f"{name}-"):
                    old.unlink(missing_ok=True)
