"""Encoders: the values of one modality → tokens (P, l, D). Each file registers one or more.

The libraries of the backbones (timm, torchvision, MONAI, transformers) are imported when a backbone is built.
"""

from remind.encoders.base import (
    Encoder,
    build_encoder,
    check_pretraining,
    choices,
    encoders,
    learns_unlabelled,
    needs_fit,
    positions,
    token_count,
)

__all__ = [
    "Encoder",
    "build_encoder",
    "check_pretraining",
    "choices",
    "encoders",
    "learns_unlabelled",
    "needs_fit",
    "positions",
    "token_count",
]
