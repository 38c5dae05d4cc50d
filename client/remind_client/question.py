"""What a coordinator asks for in a round, told apart by a digest. Imports no torch: the policy needs it too."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from remind.federation.messages import Task


class TooOldError(Exception):
    """A round is asked for whose beginning this site no longer has; the text may leave the site."""


def question_of(task: Task, buffer: NDArray[np.uint8]) -> str:
    """SHA-256 (hex) of a task and its tensors."""
    sha = hashlib.sha256(task.model_dump_json().encode())
    sha.update(np.ascontiguousarray(buffer).data)
    return sha.hexdigest()
