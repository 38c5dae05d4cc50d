"""Makes one attempt to deliver an alert: by POST to an address, or to the standard input of a program."""

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

_MOST_STDERR = 200  # characters of the last line of a program's standard error


class DeliveryError(Exception):
    """The alert was not delivered. `final`: a further attempt would fail too."""

    def __init__(self, problem: str, final: bool = False) -> None:
        super().__init__(problem)
        self.final = final


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses redirects: a POST would become a GET without content, and its headers may hold secrets of the address."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


def deliver(target: Webhook | Command, alert: Alert, timeout: float) -> None:
    """Deliver an alert, in at most `timeout` seconds for each step of a connection.

    Raises
    ------
    DeliveryError
        The alert was not delivered. The message contains neither the path of the address nor a header.
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
        where = "; set url to the address to which it redirects" if 300 <= status < 400 else ""
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
            _, stderr = child.communicate(f"{alert.text}\n".encode(), timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            raise DeliveryError(f"did not end within {timeout:g} s") from None
    if child.returncode:
        last = (stderr.decode(errors="replace").strip().splitlines() or [""])[-1][:_MOST_STDERR]
        raise DeliveryError(f"exit code {child.returncode}" + (f": {last}" if last else ""))
