"""Turn the typed options into a request for an analysis, run it, and write its two files."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

from remind.config import Config
from remind.data.sites.hospitals import SYNTHETIC
from remind.errors import UserError
from remind.fusion.base import registry as fusions
from remind.privacy.threshold import default_minimum
from remind_server.outputs.run_folder import CONFIG
from remind_server.simulation.flwr_plan import claimed, plan_here
from remind_studies.analysis.analyse import SOFT_MOE, analyse, with_soft_moe
from remind_studies.analysis.document import PAGE_FILE, WholeSet
from remind_studies.analysis.page import write_page
from remind_studies.analysis.stored import StoredRun, read_run
from remind_studies.analysis.trained import Planned, Wish
from remind_studies.analysis.words import sentences
from remind_studies.made import made

NONE = "none"  # value of --against for an analysis without a comparison

Run = StoredRun | Planned


def analyze(
    folder: Path | None,
    *,
    against: str | None,
    every: int | None,
    patients: int,
    whole_set: str = "groups",
    out: Path | None,
    cohort: str | None,
    clients: int | None,
    run_config: Sequence[str],
    command: str,
    say: Callable[[str], None],
    min_count: int | None = None,
) -> None:
    """Run an analysis; see `command.analyze_command`. `every` is None if only the final model is evaluated.

    Groups below `min_count` patients are suppressed; the default is the usual minimum for real cohorts.

    Raises
    ------
    UserError
        An option, the run or the cohort is not valid.
    """
    began = time.monotonic()
    if whole_set not in get_args(WholeSet):
        raise UserError(f"--whole-set: there is no {whole_set!r}; there are {', '.join(get_args(WholeSet))}")
    run = _run(folder, cohort, clients, run_config)
    if min_count is None:
        min_count = default_minimum(real=run.config.data.cohort != SYNTHETIC)
    if patients < min_count:
        raise UserError(
            f"--patients {patients}: gradients of fewer than {min_count} patients are suppressed; draw at least "
            f"{min_count} of each group, or give a smaller --min-count"
        )
    other = _against(run, against, final=every is None)
    assert run.folder is not None  # only what is trained for comparison is not kept
    target = (out or run.folder / "analysis").expanduser()
    if not (isinstance(run, Planned) and target.is_relative_to(run.folder)):  # a run begins in an empty folder
        _make(target)
    wish = Wish(every=every, patients=patients, whole_set=whole_set)  # type: ignore[arg-type]
    analysis = analyse(run, other, wish, lambda: made(command, time.monotonic() - began), say, min_count)
    _make(target)
    data = analysis.write(target)
    page = write_page(analysis, target / PAGE_FILE)
    for sentence in sentences(analysis):
        print(sentence)
    print(f"wrote {data}")
    print(f"wrote {page}")


def _run(folder: Path | None, cohort: str | None, clients: int | None, run_config: Sequence[str]) -> Run:
    """Return the run in a folder, or the run that --cohort and its options describe."""
    if folder is not None and cohort is None and _is_cohort(folder.expanduser()):
        folder, cohort = None, str(folder)
    if folder is not None:
        if cohort is not None or clients is not None or run_config:
            raise UserError(
                f"{folder}: a run has its cohort, hospitals and settings; leave out --cohort, --num-clients and "
                "--run-config, or leave out the run to train another"
            )
        return read_run(folder.expanduser())
    if cohort is None:
        raise UserError("nothing to analyze: name the results folder of a run, or give --cohort to train one")
    plan, _, number = plan_here(run_config, cohort, clients)
    plan = claimed(plan)
    return Planned(Config.from_flat(plan.run or {}), number, Path(plan.results))


def _is_cohort(path: Path) -> bool:
    return path.suffix == ".toml" or ((path / "cohort.toml").is_file() and not (path / CONFIG).exists())


def _against(run: Run, text: str | None, final: bool) -> Run | None:
    """Return the run to compare with. Default: Soft MoE, if the analysis trains anyway and the run is not Soft MoE."""
    if text is None:
        is_soft_moe = fusions.choose(run.config.method.fusion)[0].name == SOFT_MOE
        text = NONE if is_soft_moe or (final and isinstance(run, StoredRun)) else SOFT_MOE
    if text == NONE:
        return None
    if text == SOFT_MOE:
        return with_soft_moe(run)
    try:
        return read_run(Path(text).expanduser())
    except UserError as error:
        raise UserError(f"--against is {SOFT_MOE}, {NONE} or the results folder of a run: {error}") from None


def _make(folder: Path) -> None:
    """Create the folder before the training, so that an error does not come after hours."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / PAGE_FILE).exists():
        raise UserError(f"--out {folder}: contains other files than an analysis; name a new folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {folder}: cannot be made: {error.strerror}; name another folder") from None
    if not os.access(folder, os.W_OK):
        raise UserError(f"--out {folder}: cannot be written to; name another folder")
