"""Retention: delete the encoders, optimiser state and tokens of old runs.

A run's folder is deleted if `runs` other runs were used after it and it was not used for `days` days. Both conditions
must hold, so a run that pauses over a weekend stays, and a site with many runs a week keeps those of the week.
"""

import logging
import shutil
import time
from pathlib import Path

from remind_client.site_config import RetentionSection

DAY = 86400.0
log = logging.getLogger(__name__)


def prune(folder: Path, keep: RetentionSection, current: str = "", now: float | None = None) -> list[str]:
    """Delete the folders of old runs; return their names.

    Parameters
    ----------
    folder
        The folder that contains the folders ``run-…``.
    current
        Name of the current run: it stays, and counts as the last used.
    now
        Seconds since the epoch; None: read the clock.
    """
    now = time.time() if now is None else now
    used = {path: _last_use(path) for path in folder.glob("run-*") if path.is_dir() and path.name != current}
    newest = sorted(used, key=lambda path: (used[path], path.name), reverse=True)
    others = max(0, keep.runs - 1) if current else keep.runs
    gone = []
    for path in newest[others:]:
        if now - used[path] > keep.days * DAY:
            shutil.rmtree(path, ignore_errors=True)  # what cannot be removed now is old at the next start, too
            gone.append(path.name)
    if gone:
        log.info("removed stored data of %s old run(s): %s", len(gone), ", ".join(gone))
    return gone


def _last_use(path: Path) -> float:
    """Time of the last change in a run's folder; every round writes there."""
    times = [path.stat().st_mtime]
    for one in path.rglob("*"):
        try:
            times.append(one.stat().st_mtime)
        except OSError:  # gone meanwhile
            continue
    return max(times)
