"""Create the folder of a new consortium, completely or not at all."""

import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from remind.errors import UserError, several
from remind.invalid import invalid
from remind_server.consortium.certificates import create
from remind_server.consortium.folder import Folder, write_file
from remind_server.consortium.settings import Consortium, settings_toml


def make(
    root: Path,
    name: str,
    hosts: Sequence[str],
    port: int,
    listen: str,
    passphrase: bytes | None,
    ca_days: int,
    days: int,
) -> Folder:
    """Create the folder `root`, which must not exist or must be empty.

    Raises
    ------
    UserError
        The folder is not empty, or a setting is not valid; nothing is left behind.
    """
    settings = _settings(name, hosts, port, listen)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UserError(f"{root} is not empty; give a new folder (a consortium is never overwritten)")
    partial = root.with_name(f".{root.name}.partial")
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
        folder = Folder(partial)
        write_file(folder.settings_file, settings_toml(settings).encode())
        create(folder, passphrase, ca_days, days)
        write_file(folder.superexec_secret, secrets.token_hex(32).encode())
        os.replace(partial, root)
    except OSError as error:
        raise UserError(f"{root}: cannot create it: {error.strerror}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Folder(root)


def _settings(name: str, hosts: Sequence[str], port: int, listen: str) -> Consortium:
    proxy: dict[str, object] = {"port": port}
    if listen:
        address, colon, number = listen.rpartition(":")
        if not colon or not number.isdigit():
            raise UserError(f"--listen {listen}: must be ADDRESS:PORT, such as 0.0.0.0:8443")
        proxy = {"address": address.strip("[]"), "port": int(number)}
    try:
        return Consortium.model_validate({"name": name, "public": {"hosts": list(hosts), "port": port}, "proxy": proxy})
    except ValidationError as error:
        raise several("remind consortium init:", invalid(error, Consortium)) from None
