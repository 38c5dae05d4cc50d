"""The run configs that were asked of this site, by fingerprint, so that people can see what they approve."""

import json
from dataclasses import dataclass
from pathlib import Path

from remind.config import Config
from remind.errors import UserError
from remind.processes.private_files import private_folder, write_private
from remind_client.policy.rules import NO_MATTER, fingerprint

MOST = 200  # files kept: a coordinator can ask with any number of configs


@dataclass(frozen=True)
class Configurations:
    """One file for each, in a folder of the site."""

    folder: Path

    def keep(self, config: Config) -> None:
        """Store a config, if it is not there; the oldest goes where there are too many."""
        path = self._path(fingerprint(config))
        if path.is_file():
            return
        private_folder(self.folder)
        write_private(path, json.dumps(config.flat()).encode())
        stored = sorted(self.folder.glob("*.json"), key=lambda file: file.stat().st_mtime_ns)
        for old in stored[: max(0, len(stored) - MOST)]:
            old.unlink(missing_ok=True)

    def of(self, configuration: str) -> Config | None:
        """Return the config with this fingerprint; None if it was not kept, or is of another version."""
        try:
            config = Config.from_flat(json.loads(self._path(configuration).read_bytes()))
        except (OSError, ValueError, UserError):
            return None
        return config if fingerprint(config) == configuration else None

    def _path(self, configuration: str) -> Path:
        return self.folder / f"{configuration}.json"


def changes_of(config: Config) -> list[str]:
    """Return the settings that are not the defaults, as ``key = value``."""
    usual = Config().flat()
    return [f"{k} = {v!r}" for k, v in sorted(config.flat().items()) if v != usual[k] and k not in NO_MATTER]
