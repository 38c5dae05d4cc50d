"""Whether a model is being recorded by `torch.export`, for code whose usual form branches on the values of a batch."""

import torch


def traced() -> bool:
    """Return whether the operations of this call are recorded, to be repeated on batches of any size and content.

    Sizes and branches must then not depend on values; the result must be the same.
    """
    return torch.compiler.is_compiling()
