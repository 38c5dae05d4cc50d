"""Files of tensors in a vault: written whole, mapped into memory when read, damage is an error in words."""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from remind.model_file import digest_of
from remind_client.vault.errors import VaultError
from remind_client.vault.vault import SealedVault, Vault

REMEDY = "restore it, or remove the run's folder so that the site restarts that run"


@dataclass(frozen=True)
class TensorFiles:
    """Reads and writes the files of one site."""

    vault: Vault

    @property
    def authenticated(self) -> bool:
        """Whether the vault authenticates every byte, so that no other check is needed."""
        return isinstance(self.vault, SealedVault)

    def write(self, path: Path, content: Mapping[str, Any]) -> None:
        """Write a file, complete or not at all."""
        self.vault.write(path, lambda out: torch.save(dict(content), out))

    def read(self, path: Path, checksums: bool = False) -> dict[str, Any]:
        """Map a file into memory, so that only the used part is read.

        Parameters
        ----------
        checksums
            Whether to verify the checksums within a file that the vault does not authenticate.

        Raises
        ------
        VaultError
            The file is missing, or is not what was written.
        """
        try:
            with self.vault.open(path) as clear:
                if checksums and not self.authenticated:
                    _check_sums(clear)
                content: dict[str, Any] = torch.load(clear, weights_only=True, map_location="cpu", mmap=True)
        except FileNotFoundError:
            raise VaultError(f"{path}: is missing; {REMEDY}") from None
        except (OSError, MemoryError, VaultError):
            raise
        except Exception:  # unpickling a changed file may raise anything
            raise damaged(path) from None
        return content

    def read_weights(self, path: Path, digest: str) -> dict[str, Any]:
        """Read the weights that have this digest.

        Raises
        ------
        VaultError
            The file is missing, or its content has another digest.
        """
        weights = self.read(path)
        if not self.authenticated and digest_of(weights) != digest:
            raise damaged(path)
        return weights


def copied(content: Any) -> Any:
    """Return what reading a file with this content would return: copies of its tensors, on the processor."""
    if isinstance(content, torch.Tensor):
        return content.detach().to("cpu", copy=True)
    if isinstance(content, Mapping):
        return {name: copied(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return type(content)(map(copied, content))
    return content


def damaged(path: Path) -> VaultError:
    """Return the error for an unencrypted file that was changed on disk."""
    return VaultError(f"{path}: not what this site wrote: the file was changed or truncated; {REMEDY}")


def _check_sums(path: Path) -> None:
    """Verify the checksums that torch writes into its files and does not verify when it reads them."""
    with path.open("rb") as raw:
        try:
            wrong = zipfile.ZipFile(raw).testzip()
        except Exception as error:  # of a changed table of contents: anything, an OSError too
            raise zipfile.BadZipFile from error
    if wrong is not None:
        raise zipfile.BadZipFile
