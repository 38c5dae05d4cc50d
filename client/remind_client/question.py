"""The digest of a coordinator's request for a round. This module imports no torch, since the policy uses it too."""

import hashlib
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from remind.federation.messages import Examine, Task


class TooOldError(Exception):
    """The site no longer has the state before the requested round. The text may leave the site."""


def question_of(task: "Task | Examine", buffer: NDArray[np.uint8]) -> str:
    """Return the SHA-256 (hex) of a task and its tensors."""
    sha = hashlib.sha256(task.model_dump_json().encode())
    sha.update(np.ascontiguousarray(buffer).data)
    return sha.hexdigest()
