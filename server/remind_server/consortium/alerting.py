"""Tell people of certificates that expire: once when 30 days are left, once at 7 days, and once afterwards."""

import json
from datetime import UTC, datetime, timedelta

from remind.alerts.message import Alert
from remind.alerts.sending import Sender
from remind.errors import UserError
from remind_server.consortium.certificates import WARN, Lifetime, lifetimes
from remind_server.consortium.folder import Folder, write_file

STAGES = (WARN, timedelta(days=7), timedelta())  # left until the end, when the alert is sent


def tell_of_certificates(folder: Folder, sender: Sender, now: datetime | None = None) -> None:
    """Send what was not told before; what was is in a file of the folder, so that a restart tells nothing twice.

    Raises
    ------
    UserError
        A certificate cannot be read.
    """
    now = now or datetime.now(UTC)
    before, due = _sent(folder), set[str]()
    for one in lifetimes(folder):
        stage = _stage(one, now)
        if stage is None:
            continue
        key = f"{one.name} {one.ends:%Y-%m-%dT%H:%M:%S} {STAGES[stage].days}"
        due.add(key)
        if key in before:
            continue
        what = "has expired" if one.ends <= now else f"expires in {(one.ends - now).days} day(s)"
        about = {"certificate": one.name, "ends": one.ends.isoformat()}
        subject = f"REMIND: consortium {folder.settings.name}: the {one.name} certificate {what}"
        sender.send(Alert("certificate-expires", subject, one.problem(now), about))
    if due != before:
        try:
            write_file(folder.alerted, json.dumps(sorted(due)).encode())
        except OSError as error:
            raise UserError(f"{folder.alerted}: cannot be written: {error.strerror}; alerts may be repeated") from None


def _stage(one: Lifetime, now: datetime) -> int | None:
    reached = [i for i, left in enumerate(STAGES) if one.ends - now <= left]
    return max(reached, default=None)


def _sent(folder: Folder) -> set[str]:
    try:
        return set(json.loads(folder.alerted.read_bytes()))
    except (OSError, ValueError, TypeError):
        return set()
