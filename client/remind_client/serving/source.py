"""Which model is served, and when it is another one: a run that this hospital took part in, or an exported folder.

A hospital's own model lies in its state, where the vault encrypts it: ``runs/run-<id>/model.pt``, written when the run
examined it. Without a run's name the newest is served.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from remind.errors import UserError
from remind.metrics.calibration import CALIBRATION
from remind.prediction.bundle import Bundle, read_bundle
from remind.prediction.site_part import FILE
from remind_client.predict import runs_with_model, site_bundle
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
        What changes when another model lies there; None: none lies there.
    read
        Reads the model of this moment.
    site
        The hospital whose encoders are used; None: the only one that there is.
    """

    stamp: Callable[[], Stamp | None]
    read: Callable[[], Bundle]
    site: str | None = None


def of_folder(folder: Path, site: str | None) -> Source:
    """The model in a run's results folder or in an exported folder."""

    def stamp() -> Stamp | None:
        files = [*folder.glob("model.safetensors"), *folder.glob(CALIBRATION), *folder.glob(f"sites/*/{FILE}")]
        return _newest(files)

    return Source(stamp, lambda: read_bundle(folder), site)


def of_state(config: SiteConfig, run: str, calibration: Path | None = None) -> Source:
    """The finished model of a run in the site's state, as `remind-site predict` uses it; `run` empty: of the newest."""
    pattern = f"run-{run.removeprefix('run-')}" if run else "run-*"

    def stamp() -> Stamp | None:
        beside = [] if calibration is None else [calibration]
        folder = config.runs_folder
        return _newest([*folder.glob(f"{pattern}/{FILE}"), *folder.glob(f"{pattern}/{CALIBRATION}"), *beside])

    def read() -> Bundle:
        if not runs_with_model(config):
            raise NoModelError(
                f"{config.runs_folder}: holds no finished model of any run; a site keeps one when a run examines it at "
                "its end. Wait for the run, or name an exported folder with --model"
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
