"""One attempt to deliver an alert: by POST to an address, or to a program's standard input."""

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any

from remind.alerts.message import Alert
from remind.alerts.settings import Command, Webhook
from remind.version import VERSION

_SAID = 200  # letters of a program's last line of errors


class DeliveryError(Exception):
    """The alert was not delivered; `final`: another attempt would end alike."""

    def __init__(self, problem: str, final: bool = False) -> None:
        super().__init__(problem)
        self.final = final


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would become a GET without its content, and its headers may be secrets of the first address."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


def deliver(target: Webhook | Command, alert: Alert, timeout: float) -> None:
    """Deliver once, in at most `timeout` seconds per step of a connection.

    Raises
    ------
    DeliveryError
        It was not delivered. The message holds neither the address's path nor a header.
    """
    if isinstance(target, Webhook):
        _post(target, alert, timeout)
    else:
        _run(target, alert, timeout)


def _post(target: Webhook, alert: Alert, timeout: float) -> None:
    body = json.dumps(alert.content(), ensure_ascii=False).encode()
    headers = {"Content-Type": "application/json", "User-Agent": f"federated-remind/{VERSION}"} | target.headers
    request = urllib.request.Request(target.url, data=body, headers=headers, method="POST")
    try:
        with _OPENER.open(request, timeout=timeout):
            return
    except urllib.error.HTTPError as error:
        status = error.code
        error.close()
        again = status >= 500 or status in (408, 425, 429)
        where = "; give the address that it redirects to" if 300 <= status < 400 else ""
        raise DeliveryError(f"answered {status}{where}", final=not again) from None
    except urllib.error.URLError as error:
        raise DeliveryError(f"no answer: {error.reason}") from None
    except TimeoutError:
        raise DeliveryError(f"no answer within {timeout:g} s") from None
    except (OSError, HTTPException, ValueError) as error:
        raise DeliveryError(f"no answer: {type(error).__name__}") from None


def _run(target: Command, alert: Alert, timeout: float) -> None:
    arguments = [part.replace("{subject}", alert.subject) for part in target.run]
    surroundings = os.environ | {"REMIND_ALERT_KIND": alert.kind, "REMIND_ALERT_SUBJECT": alert.subject}
    try:
        child = subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=surroundings,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise DeliveryError(f"cannot be started: {getattr(error, 'strerror', None) or error}", final=True) from None
    with child:
        try:
            _, said = child.communicate(f"{alert.text}\n".encode(), timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            raise DeliveryError(f"did not end within {timeout:g} s") from None
    if child.returncode:
        last = (said.decode(errors="replace").strip().splitlines() or [""])[-1][:_SAID]
        raise DeliveryError(f"exit code {child.returncode}" + (f": {last}" if last else ""))
