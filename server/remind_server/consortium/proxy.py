"""The proxy in front of the SuperLink: write its configuration, find nginx, and let nginx validate it."""

import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from string import Template
from textwrap import indent

from remind.errors import UserError
from remind_server.consortium.folder import Folder, write_file

_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"  # where Debian has nginx; not on everybody's PATH
_UNFIT = set(" \t\n\"'{};$#\\")  # in a path, they would need quoting in nginx's language


def nginx_conf(folder: Folder) -> str:
    """Text of ``nginx.conf`` for this consortium."""
    settings = folder.settings
    paths = {
        "run": folder.run,
        "certificate": folder.server,
        "loopback_ca": folder.loopback_ca,
    }
    if _UNFIT & set(str(folder.root)):
        raise UserError(f"{folder.root}: nginx needs a path without spaces, quotes, braces, $, # or ;; move the folder")
    address = settings.proxy.address
    host = f"[{address}]" if ":" in address else address
    fleet = _template("nginx.fleet.template").substitute(paths)
    return _template("nginx.conf.template").substitute(
        paths,
        listen=f"{host}:{settings.proxy.port}",
        superlink=settings.superlink,
        largest_mb=settings.proxy.largest_mb,
        fleet=indent(fleet, " " * 12).strip(),
    )


def _template(name: str) -> Template:
    return Template(files("remind_server.consortium").joinpath(name).read_text(encoding="utf-8"))


def nginx_program(program: str) -> str:
    """Path of nginx, or a UserError that says how to get it."""
    found = shutil.which(program) or shutil.which(program, path=_SBIN)
    if found is None:
        raise UserError(
            f"proxy.program: {program!r} is not there; install it (Debian, Ubuntu: apt-get install nginx-light), or "
            'set proxy.kind = "none" and put another proxy in front (docs/coordinator-guide.md)'
        )
    return found


def write_proxy(folder: Folder) -> list[str]:
    """Write ``nginx.conf`` and have nginx check it; the command that runs it.

    Raises
    ------
    UserError
        If nginx is missing, or refuses the configuration, with what it says.
    """
    program = nginx_program(folder.settings.proxy.program)
    path: Path = folder.run / "nginx.conf"
    write_file(path, nginx_conf(folder).encode())
    command = [program, "-p", str(folder.run), "-c", str(path), "-e", "stderr"]
    done = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UserError(f"nginx refuses {path}:\n{done.stderr.strip()}")
    return command
