"""Model files: safetensors with a digest of everything in the file, which every reader checks.

A flipped bit still gives a valid number. Without a digest, the model would be slightly or much worse than the trained
one without any error.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from remind.errors import UserError

DIGEST, FORMAT = "sha256", "format"  # keys in the file's metadata: one flipped bit cannot make both unknown
WITH_DIGEST = "2"
_OS_ERROR = re.compile(r"os error (\d+)")  # in the text of a SafetensorError


def digest_of(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> str:
    """Return the SHA-256 (hex) of named tensors: names, types, shapes, values, and the metadata if given."""
    sha: Any = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    if metadata is not None:
        sha.update(json.dumps(dict(metadata), sort_keys=True).encode())
    return str(sha.hexdigest())


def save_model(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a model and its digest.

    Call it inside `remind.files.write_whole`, so that the file is complete or absent.
    """
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    try:
        save_file(whole, path, metadata={**metadata, FORMAT: WITH_DIGEST, DIGEST: digest_of(whole, metadata)})
    except SafetensorError as error:  # of the operating system's error only the text is left
        found = _OS_ERROR.search(str(error))
        if found is None:
            raise
        number = int(found[1])
        raise OSError(number, os.strerror(number), str(path)) from None


def load_model(path: Path, remedy: str = "restore it from a copy") -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a model file and its metadata.

    A file from before digests existed is accepted without a check.

    Raises
    ------
    UserError
        The file cannot be read, or differs from what was written.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
            metadata: dict[str, str] = dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: cannot be read: {error}; {remedy}") from None
    form, written = metadata.pop(FORMAT, None), metadata.pop(DIGEST, None)
    if (form or written) and written != digest_of(tensors, metadata):
        raise UserError(f"{path}: was changed since it was written (its digest does not fit); {remedy}")
    return tensors, metadata
