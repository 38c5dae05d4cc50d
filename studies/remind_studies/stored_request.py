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


class StoredRequest(Section):
    """The request of a study. Two requests with the same results are equal, independent of the cohort's path.

    Attributes
    ----------
    study, options
        Name and options of the study.
    cohort
        Name, fingerprint of the schema, and number of patients.
    common
        Settings of every run.
    arms
        Own settings and options of each method.
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
    def of(cls, study: str, options: Mapping[str, Any], request: Request, tune: int) -> "StoredRequest":
        """Return the stored form of a request."""
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

    def differences(self, before: "StoredRequest") -> list[str]:
        """Return the differences that forbid to continue an earlier request: only methods and seeds may be added."""
        mine, theirs = self.model_dump(), before.model_dump()
        found = [key for key in mine if key not in {"seeds", "arms"} and mine[key] != theirs[key]]
        if not set(before.seeds) <= set(self.seeds):
            found.append("seeds")
        if any(self.arms.get(name) != arm for name, arm in before.arms.items()):
            found.append("methods")
        return found


def folder_for(request: StoredRequest, out: Path | None, default: Path, say: Callable[[str], None]) -> StudyFolder:
    """Return the folder of a study: the given one, else the first of `default`, `default`-2 … that it may use.

    Runs stored in one of the default folders are not repeated for another.

    Raises
    ------
    UserError
        The given folder contains the report of another study.
    """
    if out is not None:
        if reason := _taken(out, request):
            raise UserError(
                f"--out {out}: contains the report of a study with other {reason}; give another folder. "
                "To continue a study, keep its settings; you may add methods and seeds"
            )
        return StudyFolder(out)
    numbered = [default, *(default.with_name(f"{default.name}-{number}") for number in range(2, MOST))]
    path = next(path for path in numbered if not _taken(path, request))
    if path != default:
        reason = _taken(default, request)
        say(f"{default} contains the report of a study with other {reason}; writing this one to {path}")
    return StudyFolder(path, beside=[other for other in numbered if other != path and other.is_dir()])


def _taken(path: Path, request: StoredRequest) -> str:
    """Return why a folder's report must not be overwritten; empty if there is none, or if this study continues it."""
    if not any((path / name).exists() for name in (RESULTS, REPORT)):
        return ""
    try:
        before = StoredRequest.model_validate_json((path / MARK).read_bytes())
    except (OSError, ValidationError):
        return "settings, which it does not state"
    return ", ".join(request.differences(before))
