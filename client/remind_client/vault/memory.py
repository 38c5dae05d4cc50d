"""Stores the results of file examinations in the vault of the site's state folder, because they contain paths."""

from dataclasses import dataclass
from pathlib import Path

from remind.errors import UserError
from remind.processes.private_files import private_folder
from remind_client.vault.vault import Vault


@dataclass(frozen=True)
class VaultMemory:
    """A `remind.data.cohort.verdicts.Memory` in a folder of a vault."""

    folder: Path
    vault: Vault

    def read(self, name: str) -> bytes | None:
        """See `Memory`; what cannot be opened is as good as nothing: the files are examined again."""
        path = self.folder / name
        try:
            return self.vault.read(path) if path.is_file() else None
        except (OSError, UserError):
            return None

    def write(self, name: str, content: bytes) -> None:
        """See `Memory`."""
        try:
            private_folder(self.folder)
            self.vault.write(self.folder / name, lambda out: out.write(content))
        except OSError:
            return


class NoMemory:
    """Remembers nothing."""

    def read(self, name: str) -> None:
        """See `Memory`."""

    def write(self, name: str, content: bytes) -> None:
        """See `Memory`."""
