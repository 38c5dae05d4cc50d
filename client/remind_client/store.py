"""What a site keeps between rounds, on its own disk: encoder weights and optimiser state.

Flower's own state is lost at every restart and, from about 200 MB, silently (FLOWER.md); a reply is only returned once
everything it depends on lies here. Writes are atomic: a killed site finds the state of before or of after.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

ENCODERS, OPTIMIZER = "encoders.safetensors", "optimizer.pt"


@dataclass(frozen=True)
class SiteStore:
    """A folder that belongs to one site and one run."""

    folder: Path

    def save(self, encoders: dict[str, Tensor], optimizer: dict[str, Any], stage: int) -> None:
        """Keep encoder weights, and the optimiser's state with the stage it belongs to."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if encoders:
            self._replace(ENCODERS, lambda path: save_file(encoders, path))
        self._replace(OPTIMIZER, lambda path: torch.save({"stage": stage, "state": optimizer}, path))

    def encoders(self) -> dict[str, Tensor] | None:
        """Encoder weights as last kept; None before the first round."""
        path = self.folder / ENCODERS
        return load_file(path) if path.is_file() else None

    def optimizer(self, stage: int) -> dict[str, Any] | None:
        """State of the optimiser of this stage; None if there is none: stage 2 begins with a fresh one."""
        path = self.folder / OPTIMIZER
        if not path.is_file():
            return None
        kept = torch.load(path, weights_only=True, map_location="cpu")
        return kept["state"] if kept["stage"] == stage else None

    def _replace(self, name: str, write: Any) -> None:
        partial = self.folder / f"{name}.partial"
        write(partial)
        os.replace(partial, self.folder / name)
