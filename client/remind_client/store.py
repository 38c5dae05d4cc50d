"""What a site keeps between rounds, on its own disk: encoder weights and optimiser state.

Flower's own state is lost at every restart and, from about 200 MB, silently (FLOWER.md); a reply is only returned once
everything it depends on lies here. It is one file, replaced at once: a killed site finds all of the state of before or
all of that of after, never new encoders with the optimiser of the round before.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from remind.files import write_whole

STATE = "state.pt"


@dataclass(frozen=True)
class SiteStore:
    """A folder that belongs to one site and one run."""

    folder: Path

    def save(self, encoders: dict[str, Tensor], optimizer: dict[str, Any], stage: int) -> None:
        """Keep encoder weights, and the optimiser's state with the stage it belongs to."""
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {"encoders": dict(encoders), "stage": stage, "optimizer": optimizer}
        write_whole(self.folder / STATE, lambda path: torch.save(state, path))

    def encoders(self) -> dict[str, Tensor] | None:
        """Encoder weights as last kept; None before the first round."""
        kept = self._load()
        return kept["encoders"] if kept else None

    def optimizer(self, stage: int) -> dict[str, Any] | None:
        """State of the optimiser of this stage; None if there is none: stage 2 begins with a fresh one."""
        kept = self._load()
        return kept["optimizer"] if kept and kept["stage"] == stage else None

    def _load(self) -> dict[str, Any] | None:
        """What is kept; mapped into memory, so that only what is used is read."""
        path = self.folder / STATE
        return torch.load(path, weights_only=True, map_location="cpu", mmap=True) if path.is_file() else None
