"""The folder of a run's results; coordinator and virtual hospitals compute the same path."""

from pathlib import Path

from remind.config import Config


def results_folder(config: Config, run_id: int) -> Path:
    """Return the run's folder: the one in the config, or a new one under ~/federated-remind/results."""
    return Path(config.results) if config.results else Path.home() / "federated-remind" / "results" / f"run-{run_id}"
