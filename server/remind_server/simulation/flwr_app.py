"""Recognises our Flower app in a folder and reads its defaults."""

import tomllib
from pathlib import Path

from remind.config import Scalar
from remind.config_pairs import flatten
from remind_server.simulation.app_config import SERVER_APP


def defaults(app_dir: Path) -> dict[str, Scalar] | None:
    """Return the run config of our app by dotted key; None for another app or a folder that Flower will refuse."""
    path = app_dir / "pyproject.toml"
    try:
        app = tomllib.loads(path.read_text(encoding="utf-8"))["tool"]["flwr"]["app"]
        if app["components"]["serverapp"] != SERVER_APP:
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return flatten(app.get("config", {}), str(path))
