"""What a site keeps between rounds, on its own disk: encoder weights, optimiser state, cached tokens.

Flower's own state is lost at every restart and, from about 200 MB, silently (flower §3); a reply is only returned once
everything it depends on lies here. One file, replaced at once, says which encoders and which optimiser belong together:
a killed site finds all of the state of before or all of that of after. Encoders lie beside it under the digest of their
weights, so that frozen ones are written once and not every round.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from remind.training.token_cache import TokenCache
from remind_client.vault.tokens import SealedTokenCache
from remind_client.vault.vault import PlainVault, SealedVault, Vault

STATE = "state.pt"


@dataclass(frozen=True)
class SiteStore:
    """A folder that belongs to one site and one run."""

    folder: Path
    vault: Vault = field(default_factory=PlainVault)

    def save(
        self,
        encoders: Mapping[str, nn.Module],
        optimizer: dict[str, Any],
        stage: int,
        kept: Mapping[str, Tensor] | None = None,
    ) -> dict[str, str]:
        """Keep the encoders' weights, the optimiser's state with the stage it belongs to, and the site's own tensors.

        Returns
        -------
        dict
            Digest of each encoder.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        digests = {name: digest(encoder) for name, encoder in encoders.items()}
        for name, encoder in encoders.items():
            path = self._encoder(name, digests[name])
            if not path.is_file():
                self._write(path, dict(encoder.state_dict()))
        self.save_optimizer(digests, optimizer, stage, kept)
        current = {self._encoder(name, digests[name]) for name in encoders}
        for old in set(self.folder.glob("encoder-*.pt")) - current:
            old.unlink()
        return digests

    def save_optimizer(
        self,
        digests: Mapping[str, str],
        optimizer: dict[str, Any],
        stage: int,
        kept: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Keep the optimiser's state and the site's own tensors; the encoders are those of these digests, unchanged."""
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {"encoders": dict(digests), "stage": stage, "optimizer": optimizer, "kept": dict(kept or {})}
        self._write(self.folder / STATE, state)

    def save_kept(self, kept: Mapping[str, Tensor]) -> None:
        """Keep the site's own tensors; encoders and optimiser are as they were."""
        state = self._state()
        self.save_optimizer(state.get("encoders", {}), state.get("optimizer", {}), state.get("stage", 0), kept)

    def forget(self, kept: Mapping[str, Tensor]) -> None:
        """Start over with nothing but these tensors of the site's own."""
        self.save_optimizer({}, {}, 0, kept)

    def kept(self) -> dict[str, Tensor]:
        """The site's own tensors: what by the federated rule does not travel, and what a method remembers."""
        found: dict[str, Tensor] = self._state().get("kept", {})
        return dict(found)

    def digests(self) -> dict[str, str]:
        """Digest of each encoder as last kept; nothing before the first round that trains them."""
        found: dict[str, str] = self._state().get("encoders", {})
        return found

    def encoder(self, name: str, found: str) -> dict[str, Tensor]:
        """Weights of the encoder with this digest."""
        weights: dict[str, Tensor] = self._read(self._encoder(name, found))
        return weights

    def optimizer(self, stage: int) -> dict[str, Any] | None:
        """State of the optimiser of this stage; None if there is none: stage 2 begins with a fresh one."""
        state = self._state()
        return state["optimizer"] if state.get("stage") == stage else None

    def tokens(self) -> TokenCache:
        """Cached tokens of this site."""
        folder = self.folder / "tokens"
        return SealedTokenCache(folder, self.vault) if isinstance(self.vault, SealedVault) else TokenCache(folder)

    def _encoder(self, name: str, found: str) -> Path:
        return self.folder / f"encoder-{name}-{found[:40]}.pt"

    def _state(self) -> dict[str, Any]:
        path = self.folder / STATE
        return self._read(path) if path.is_file() else {}

    def _write(self, path: Path, content: dict[str, Any]) -> None:
        self.vault.write(path, lambda out: torch.save(content, out))

    def _read(self, path: Path) -> dict[str, Any]:
        """Mapped into memory, so that only what is used is read."""
        with self.vault.open(path) as clear:
            content: dict[str, Any] = torch.load(clear, weights_only=True, map_location="cpu", mmap=True)
        return content


def digest(module: nn.Module) -> str:
    """SHA-256 (hex) of a module's weights and buffers."""
    sha = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return sha.hexdigest()
