"""Cache of frozen encoders' tokens on disk, memory-mapped: computed once, read in part, never stale.

The name of a file is the digest of everything that determines its content: the encoder's weights, the patients' data,
the schema, the number type, the version of this library and the code of its readers. Other inputs give another file,
and old files are removed. The file ends with the digest of its tokens; a file that was changed on disk is computed
again.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from math import prod
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from remind.data.cohort.kind import kind_code
from remind.data.cohort.schema import ModalitySchema
from remind.data.cohort.verdicts import readers_code
from remind.version import VERSION

SUFFIX = ".tokens"
DIGEST = hashlib.sha256().digest_size  # bytes after the tokens
CHUNK = 1 << 20
Shape = tuple[int, int, int]


def cache_key(encoder: str, schema: ModalitySchema, contents: str, dtype: torch.dtype) -> str:
    """Return the digest of everything that determines a modality's tokens: encoder weights, schema, contents, type."""
    parts = (VERSION, readers_code(), *kind_code(schema), encoder, schema.model_dump_json(), contents, str(dtype))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


class TokenCache:
    """A folder with one file of tokens (P, l, D) per modality, in native order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, name: str, key: str, shape: Shape, dtype: torch.dtype) -> Tensor | None:
        """Return a modality's tokens, memory-mapped.

        None if there are none for this key, or if the file was changed.
        """
        path = self._path(name, key)
        size = prod(shape)
        if not size:
            return torch.empty(shape, dtype=dtype)
        bytes_ = size * dtype.itemsize
        if not path.is_file() or path.stat().st_size != bytes_ + DIGEST or not _is_whole(path, bytes_):
            return None
        return torch.from_file(str(path), shared=False, size=size, dtype=dtype).view(shape)

    @contextmanager
    def writing(self, wanted: Mapping[str, tuple[str, Shape]], dtype: torch.dtype) -> Iterator[dict[str, Tensor]]:
        """Yield tensors to fill, by modality.

        Complete files appear at the end of the block, and older ones are removed.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            tokens = {}
            for name, (key, shape) in wanted.items():
                partial = self._path(name, key).with_suffix(".partial")
                stack.callback(partial.unlink, missing_ok=True)
                size = prod(shape)
                _reserve(partial, size * dtype.itemsize)
                tokens[name] = (
                    torch.from_file(str(partial), shared=True, size=size, dtype=dtype).view(shape)
                    if size
                    else torch.empty(shape, dtype=dtype)
                )
            yield tokens
            tokens.clear()
            for name, (key, shape) in wanted.items():
                path = self._path(name, key)
                partial = path.with_suffix(".partial")
                _append_digest(partial, prod(shape) * dtype.itemsize)
                partial.replace(path)
                for old in self.folder.glob(f"{name}-*{SUFFIX}"):
                    if old != path and old.name.removeprefix(f"{name}-").count("-") == 0:
                        old.unlink(missing_ok=True)

    def _path(self, name: str, key: str) -> Path:
        return self.folder / f"{name}-{key[:40]}{SUFFIX}"


def _reserve(path: Path, size: int) -> None:
    """Create a file and allocate its disk space: a process that writes to a mapped file without space is killed.

    Raises
    ------
    OSError
        The disk is full.
    """
    with path.open("wb") as file:
        if size and hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(path)) from None


def _append_digest(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        found = _digest(file, size)
        file.seek(size)
        file.write(found)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())


def _is_whole(path: Path, size: int) -> bool:
    with path.open("rb") as file:
        return _digest(file, size) == file.read(DIGEST)


def _digest(file: IO[bytes], size: int) -> bytes:
    """Return the digest of the first `size` bytes, read in pieces because they may exceed the memory."""
    sha, left = hashlib.sha256(), size
    while left and (piece := file.read(min(CHUNK, left))):
        sha.update(piece)
        left -= len(piece)
    return sha.digest()
