"""Where a run's results lie, computed alike by coordinator and virtual hospitals."""

from pathlib import Path

from remind.config import Config


def results_folder(config: Config, run_id: int) -> Path:
    """The run's folder: the config's, or one of its own under ~/federated-remind/results."""
    return Path(config.results) if config.results else Path.home() / "federated-remind" / "results" / f"run-{run_id}"
