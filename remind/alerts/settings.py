"""``alerts.toml``: the targets of alerts. It may contain secrets, so the config, which hospitals read, excludes it."""

import os
import re
import shutil
import tomllib
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from remind.alerts.message import KINDS, Kind
from remind.errors import UserError, several
from remind.invalid import invalid

VARIABLE = "REMIND_ALERTS"  # path of the file
FILE_NAME = "alerts.toml"
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def _address(text: str) -> str:
    try:
        parts = urlsplit(text)
        port_is_one = parts.port is None or parts.port > 0
    except ValueError as error:
        raise ValueError(f"not an address: {error}") from None
    if parts.scheme not in ("https", "http") or not parts.hostname or not port_is_one or not text.isascii():
        raise ValueError("must be an address that begins with https:// or http://")
    if re.search(r"[\x00-\x20\x7f]", text):
        raise ValueError("must not contain spaces or control characters")
    return text


def _headers(found: dict[str, str]) -> dict[str, str]:
    for name, value in found.items():
        if not _HEADER.fullmatch(name) or not value.isascii() or not value.isprintable():
            raise ValueError(f"{name!r} is not a header that can be sent")
    return found


class _Target(BaseModel):
    """Base class of both kinds of target: frozen, without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    events: tuple[Kind, ...] = KINDS


class Webhook(_Target):
    """An address that receives each alert as JSON by POST."""

    url: Annotated[str, AfterValidator(_address)]
    headers: Annotated[dict[str, str], AfterValidator(_headers)] = {}

    @property
    def name(self) -> str:
        """Name in tables: the host, because the path may be a secret."""
        return f"webhook {urlsplit(self.url).hostname}"


class Command(_Target):
    """A program that receives each alert on its standard input. ``{subject}`` in an argument becomes the subject."""

    run: Annotated[tuple[Annotated[str, Field(pattern=r"^[^\x00]+$")], ...], Field(min_length=1)]

    @property
    def name(self) -> str:
        """Name in tables: the program."""
        return f"command {Path(self.run[0]).name}"


class Alerts(BaseModel):
    """The content of ``alerts.toml``."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    webhook: tuple[Webhook, ...] = ()
    command: tuple[Command, ...] = ()

    @property
    def targets(self) -> tuple[Webhook | Command, ...]:
        """All targets."""
        return (*self.webhook, *self.command)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file.

        Raises
        ------
        UserError
            The file cannot be read, other users can read it, or a field is wrong. The text shows no value.
        """
        try:
            if path.stat().st_mode & 0o077:
                raise UserError(f"{path}: other users can read it, and it may contain secrets; run: chmod 600 {path}")
            return cls.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise UserError(f"{path}: cannot read it: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{path} is not valid TOML: {error}") from None
        except ValidationError as error:
            raise several(f"{path} is not valid:", invalid(error, cls, secret=True)) from None


def read_alerts(beside: Path) -> Alerts:
    """Read the file that ``REMIND_ALERTS`` names, else ``alerts.toml`` in the folder `beside`, if there is one.

    Raises
    ------
    UserError
        The file is not valid, names a program that does not exist, or the file that ``REMIND_ALERTS`` names is missing.
    """
    if named := os.environ.get(VARIABLE, ""):
        path = Path(named).expanduser()
        return _startable(Alerts.read(path), path)
    path = beside / FILE_NAME
    return _startable(Alerts.read(path), path) if path.exists() else Alerts()


def _startable(alerts: Alerts, path: Path) -> Alerts:
    """Return the alerts if each program exists. A missing program must be reported at the start, not by an alert."""
    lacking = [
        f"command {number}.run: there is no program {one.run[0]!r}; install it, or give its full path"
        for number, one in enumerate(alerts.command, 1)
        if shutil.which(one.run[0]) is None
    ]
    if lacking:
        raise several(f"{path} is not valid:", lacking)
    return alerts
