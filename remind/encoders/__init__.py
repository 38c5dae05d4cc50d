"""One encoder per kind of modality: values → tokens (P, l, D). Importing the package registers them all.

The libraries that the backbones come from (timm, torchvision, MONAI, transformers) are imported when one is built.
"""

from remind.encoders import codes, image, series, table, text, volume
from remind.encoders.base import Encoder, build_encoder, needs_fit, token_count

__all__ = [
    "Encoder",
    "build_encoder",
    "codes",
    "image",
    "needs_fit",
    "series",
    "table",
    "text",
    "token_count",
    "volume",
]
