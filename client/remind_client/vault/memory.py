"""Stores the results of file examinations in the vault of the site's state folder, because they contain paths."""

from dataclasses import dataclass
from pathlib import Path

from typing_extensions import override

from remind.data.cohort.verdicts import Memory
from remind.errors import UserError
from remind.processes.private_files import private_folder
from remind_client.vault.vault import Vault


@dataclass(frozen=True)
class VaultMemory(Memory):
    """A `remind.data.cohort.verdicts.Memory` in a folder of a vault."""

    folder: Path
    vault: Vault

    @override
    def read(self, name: str) -> bytes | None:
        """Return stored results; None if they cannot be read, so that the files are examined again."""
        path = self.folder / name
        try:
            return self.vault.read(path) if path.is_file() else None
        except (OSError, UserError):
            return None

    @override
    def write(self, name: str, content: bytes) -> None:
        try:
            private_folder(self.folder)
            self.vault.write(self.folder / name, lambda out: out.write(content))
        except OSError:
            return


class NoMemory(Memory):
    """Remembers nothing."""

    @override
    def read(self, name: str) -> None:
        return

    @override
    def write(self, name: str, content: bytes) -> None:
        return
