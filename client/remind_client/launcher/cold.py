"""Run a task in a separate process: without a worker, or for code that the hospital allowed by its hash."""

import os
import signal
import sys
from pathlib import Path

from remind.errors import UserError
from remind_client.audit.note import note_policy
from remind_client.site_config import VARIABLE, load_site_config


def main() -> int:
    """Run the task of the command line for the site that the environment names."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a running task handles SIGINT itself; ignore a late one
    if not (path := os.environ.get(VARIABLE)):
        print(f"error: {VARIABLE} is not set; remind-site run starts this program", file=sys.stderr)
        return 1
    try:
        site = load_site_config(Path(path))
        note_policy(site.audit_log, site.policy.digest)  # this process reads site.toml as it is now
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    from remind_client.launcher.door import Door  # seconds, with torch: only once there is something to do
    from remind_client.launcher.task import TaskCall, run_task, set_up_logging

    set_up_logging()
    return 0 if run_task(TaskCall.parse(sys.argv[1:]), Door(site)) else 1


if __name__ == "__main__":
    raise SystemExit(main())
