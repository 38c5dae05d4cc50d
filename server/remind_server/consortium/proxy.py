"""The proxy in front of the SuperLink: write its configuration, find nginx, and let nginx validate it."""

import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from string import Template
from textwrap import indent

from remind.errors import UserError
from remind_server.consortium.folder import Folder, write_file

_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"  # Debian's nginx; not on every user's PATH
_UNFIT = set(" \t\n\"'{};$#\\")  # these need quoting in nginx's configuration


def nginx_conf(folder: Folder) -> str:
    """Return the text of ``nginx.conf`` for this consortium."""
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
    """Return the path of nginx; if it is missing, raise a UserError with the install command."""
    found = shutil.which(program) or shutil.which(program, path=_SBIN)
    if found is None:
        raise UserError(
            f"proxy.program: {program!r} is missing; install it (Debian, Ubuntu: apt-get install nginx-light), or "
            'set proxy.kind = "none" and put another proxy in front (docs/coordinator-guide.md)'
        )
    return found


def write_proxy(folder: Folder) -> list[str]:
    """Write ``nginx.conf`` and let nginx check it; return the command that runs nginx.

    Raises
    ------
    UserError
        Nginx is missing or refuses the configuration; the error quotes it.
    """
    program = nginx_program(folder.settings.proxy.program)
    path: Path = folder.run / "nginx.conf"
    write_file(path, nginx_conf(folder).encode())
    command = [program, "-p", str(folder.run), "-c", str(path), "-e", "stderr"]
    done = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UserError(f"nginx refuses {path}:\n{done.stderr.strip()}")
    return command
