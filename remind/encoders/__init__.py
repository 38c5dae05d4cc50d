"""One encoder per kind of modality: values → tokens (B, l, D). Importing the package registers them all."""

from remind.encoders import series, table
from remind.encoders.base import Encoder, build_encoder, token_count

__all__ = ["Encoder", "build_encoder", "series", "table", "token_count"]
