"""Where the service finds its model, and how it notices a new one: a run of this hospital, or an exported folder.

A hospital's own model is ``runs/run-<id>/model.pt`` in its state, encrypted by the vault. It is written when the run
examines the final model. Without the name of a run, the newest model is used.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from remind.errors import UserError
from remind.metrics.calibration import CALIBRATION
from remind.prediction.bundle import Bundle, read_bundle
from remind.prediction.site_part import FILE
from remind_client.models.predict import runs_with_model, site_bundle
from remind_client.site_config import SiteConfig


class NoModelError(UserError):
    """There is no finished model yet."""


Stamp = tuple[str, int, int]  # file, its time in ns, its size


@dataclass(frozen=True)
class Source:
    """Where a model comes from.

    Attributes
    ----------
    stamp
        Changes when the model changes; None if there is no model.
    read
        Reads the current model.
    site
        The hospital whose encoders are used; None: the only one.
    """

    stamp: Callable[[], Stamp | None]
    read: Callable[[], Bundle]
    site: str | None = None


def of_folder(folder: Path, site: str | None) -> Source:
    """Return the source of the model in a run's results folder or in an exported folder."""

    def stamp() -> Stamp | None:
        files = [*folder.glob("model.safetensors"), *folder.glob(CALIBRATION), *folder.glob(f"sites/*/{FILE}")]
        return _newest(files)

    return Source(stamp, lambda: read_bundle(folder), site)


def of_state(config: SiteConfig, run: str, calibration: Path | None = None) -> Source:
    """Return the source of a run's finished model in the site's state, as for `remind-site predict`."""
    pattern = f"run-{run.removeprefix('run-')}" if run else "run-*"

    def stamp() -> Stamp | None:
        beside = [] if calibration is None else [calibration]
        folder = config.runs_folder
        return _newest([*folder.glob(f"{pattern}/{FILE}"), *folder.glob(f"{pattern}/{CALIBRATION}"), *beside])

    def read() -> Bundle:
        if not runs_with_model(config):
            raise NoModelError(
                f"{config.runs_folder}: contains no finished model; a site stores its model when the run examines it "
                "at the end. Wait for the run, or name an exported folder with --model"
            )
        return site_bundle(config, run, calibration)

    return Source(stamp, read)


def _newest(files: list[Path]) -> Stamp | None:
    stamps = []
    for path in files:
        try:
            status = path.stat()
        except FileNotFoundError:  # replaced at this moment
            continue
        stamps.append((str(path), status.st_mtime_ns, status.st_size))
    return max(stamps, key=lambda stamp: stamp[1], default=None)
