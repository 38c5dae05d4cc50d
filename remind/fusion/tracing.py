"""Detects whether `torch.export` traces a model, for code that otherwise branches on the values of a batch."""

import torch


def traced() -> bool:
    """Return whether the current call is traced, to be replayed on batches of any size and content.

    Then sizes and branches must not depend on values, and the result must stay the same.
    """
    return torch.compiler.is_compiling()
