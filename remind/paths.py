"""The folder of a run's results; coordinator and virtual hospitals compute the same path."""

from pathlib import Path

from remind.config import Config


def results_folder(config: Config, run_id: int) -> Path:
    """Return the run's folder: the one in the config, or a new one under ~/federated-remind/results."""
    if config.results:
        return Path(config.results)
    return Path.home() / "federated-remind" / "results" / f"run-{run_name(config, run_id)}"


def run_name(config: Config, run_id: int) -> str:
    """Return the identity of a run, which a resume keeps: ``run.id``, else the number of its first Flower run."""
    return config.run.id or str(run_id)
