"""Read the results folder of a run: its settings, its patients and its results (docs/results.md)."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from remind import groups
from remind.config import Config
from remind.errors import UserError
from remind.model_file import load_model
from remind_server.outputs.run_folder import CONFIG, GROUPS, MODEL, SUMMARY
from remind_studies.analysis.document import Weights
from remind_studies.analysis.hospitals import Hospitals

SITES = "sites"
WHERE = "give the results folder of a run, as docs/results.md describes it"


@dataclass(frozen=True)
class StoredRun:
    """A finished run of a simulation.

    Attributes
    ----------
    counts
        Site → training patients by the groups' names.
    """

    folder: Path
    config: Config
    counts: dict[str, dict[str, int]]

    @property
    def number(self) -> int:
        """Hospitals."""
        return len(self.counts)

    @property
    def sites(self) -> Path:
        """Folder of the virtual hospitals' files."""
        return self.folder / SITES

    def tensors(self) -> dict[str, Tensor]:
        """Return the final global model."""
        return load_model(self.folder / MODEL, WHERE)[0]

    def weights(self) -> tuple[Weights, ...]:
        """Return λ after 0, 1, 2 … rounds; of a repeated round, the last values."""
        path = self.folder / GROUPS
        after: dict[int, dict[int, float]] = {}
        try:
            with path.open(encoding="utf-8") as lines:
                for line in lines:
                    row = json.loads(line)
                    rounds, group = int(row["round"]), int(row["mask"])
                    after.setdefault(rounds - 1, {})[group] = float(row["lambda"])
                    after.setdefault(rounds, {})[group] = float(row["lambda_next"])
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}; {WHERE}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: is damaged ({error}); {WHERE}") from None
        return tuple(Weights(rounds=r, of=dict(sorted(of.items()))) for r, of in sorted(after.items()))

    def hospitals(self, folder: Path, stored: bool) -> Hospitals:
        """Return the run's hospitals: with their stored files (`stored`), or as before the first round.

        Raises
        ------
        UserError
            The cohort has changed since the run.
        """
        found = Hospitals(self.config, self.number, folder, self.sites if stored else None)
        now = {
            site.name: {groups.name(k, found.schema.names): n for k, n in sorted(site.engine.patients.counts.items())}
            for site in found.sites
        }
        if now != self.counts:
            other = sorted(name for name in now.keys() | self.counts.keys() if now.get(name) != self.counts.get(name))
            raise UserError(
                f"{self.folder / CONFIG}: the patients are no longer those of the run (training patients of "
                f"{', '.join(other)} differ): restore the cohort {self.config.data.cohort}, or "
                "train again with --cohort"
            )
        return found


def read_run(folder: Path) -> StoredRun:
    """Read the run in a results folder.

    Raises
    ------
    UserError
        The folder contains no run, the run has not finished or is not a simulation, or another version made it.
    """
    content = _content(folder)
    try:
        config = Config.model_validate(content["config"])
        counts = {str(site): {str(k): int(n) for k, n in own.items()} for site, own in content["sites"].items()}
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(
            f"{folder / CONFIG}: {where}: {first['msg']}; this run was made by another version of federated-remind: "
            "analyze it with that one"
        ) from None
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(f"{folder / CONFIG}: is not the config of a run; {WHERE}") from None
    if content.get("refused"):
        names = ", ".join(sorted(content["refused"]))
        raise UserError(f"{folder / CONFIG}: hospitals were refused ({names}); analyze a run that all took part in")
    if not (folder / SITES).is_dir():
        raise UserError(
            f"{folder}: has no {SITES}/: it is a run of real hospitals, whose encoders and patients never leave them; "
            "the dashboard shows λ and the gate's rate. Only simulations can be analyzed"
        )
    if not (folder / SUMMARY).is_file():
        raise UserError(f"{folder}: has no {SUMMARY}: the run has not finished; wait for it, or run it again")
    return StoredRun(folder, config, counts)


def _content(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        runs = sorted(inner.parent.name for inner in folder.glob(f"*/{CONFIG}"))
        hint = f"; did you mean {folder / runs[-1]}?" if runs else f"; {WHERE}"
        raise UserError(f"{folder}: has no {CONFIG}{hint}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; {WHERE}") from None
    except ValueError:
        raise UserError(f"{path}: is not JSON; {WHERE}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: is not the config of a run; {WHERE}")
    return content
