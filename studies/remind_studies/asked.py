"""Store the request of a study in its folder, so that a report never overwrites the report of another request."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from remind.config import Scalar, Section
from remind.errors import UserError
from remind_studies.cells.cell import PLACES
from remind_studies.cells.folder import MARK, REPORT, RESULTS, StudyFolder
from remind_studies.study import Request

MOST = 1000  # folders of one study and cohort


class Asked(Section):
    """A study as it was asked for: two with the same answer are equal, wherever the cohort lies.

    Attributes
    ----------
    study, options
        Its name, and its options.
    cohort
        Name, fingerprint of the schema, and number of patients.
    common
        Settings of every run.
    arms
        Of each method: settings and options of its own.
    """

    study: str
    options: dict[str, Any]
    cohort: tuple[str, str, int]
    common: dict[str, Scalar]
    clients: int | None
    metric: str
    tune: int
    anchors: bool
    seeds: tuple[int, ...]
    arms: dict[str, dict[str, Any]]

    @classmethod
    def of(cls, study: str, options: Mapping[str, Any], request: Request, tune: int) -> "Asked":
        """What a request asks for."""
        schema = request.cohort.schema
        return cls(
            study=study,
            options=dict(options),
            cohort=(schema.name, schema.fingerprint, len(request.cohort)),
            common={key: value for key, value in sorted(request.common.items()) if key not in PLACES},
            clients=request.clients,
            metric=request.metric,
            tune=tune,
            anchors=request.anchors,
            seeds=tuple(sorted(request.seeds)),
            arms={arm.name: arm.model_dump(mode="json", exclude={"name"}) for arm in request.arms},
        )

    def differences(self, before: "Asked") -> list[str]:
        """Where this does not go on with what was asked before: it may add methods and seeds, and change nothing."""
        mine, theirs = self.model_dump(), before.model_dump()
        found = [key for key in mine if key not in {"seeds", "arms"} and mine[key] != theirs[key]]
        if not set(before.seeds) <= set(self.seeds):
            found.append("seeds")
        if any(self.arms.get(name) != arm for name, arm in before.arms.items()):
            found.append("methods")
        return found


def folder_for(asked: Asked, out: Path | None, default: Path, say: Callable[[str], None]) -> StudyFolder:
    """The folder of a study: the one asked for, else the first of `default`, `default`-2 … that it may be written to.

    Runs that lie in one of the default folders are not done again for another.

    Raises
    ------
    UserError
        The folder that was asked for holds the report of another study.
    """
    if out is not None:
        if reason := _taken(out, asked):
            raise UserError(
                f"--out {out}: holds a report that this study does not continue (other {reason}); name another folder. "
                "A study may be continued with the same settings, and with methods or seeds more"
            )
        return StudyFolder(out)
    numbered = [default, *(default.with_name(f"{default.name}-{number}") for number in range(2, MOST))]
    path = next(path for path in numbered if not _taken(path, asked))
    if path != default:
        say(f"{default} holds the report of a study with other {_taken(default, asked)}; this one goes to {path}")
    return StudyFolder(path, beside=[other for other in numbered if other != path and other.is_dir()])


def _taken(path: Path, asked: Asked) -> str:
    """Why a folder's report must not be written over; empty if there is none, or this study goes on with it."""
    if not any((path / name).exists() for name in (RESULTS, REPORT)):
        return ""
    try:
        before = Asked.model_validate_json((path / MARK).read_bytes())
    except (OSError, ValidationError):
        return "settings, which it does not tell"
    return ", ".join(asked.differences(before))
