"""Replace the CA while hospitals stay connected: trust both CAs, switch the server certificate, remove the old CA.

    start    a second CA is made; hospitals get new kits, whose ca.crt holds both
    switch   the second CA becomes the CA and signs the server certificate
    finish   the first CA is no longer trusted; hospitals get new kits

Each step can be repeated after a crash: it skips what is already done.
"""

import os
from pathlib import Path

from remind.errors import UserError
from remind_server.consortium.authority import certificate_pem, issue_ca, key_pem, new_key
from remind_server.consortium.certificates import load_certificates, renew_server
from remind_server.consortium.folder import Folder, read_file, write_file


def start(folder: Folder, passphrase: bytes | None, days: int) -> None:
    """Create the next CA, and the file of both certificates that hospitals must trust."""
    if _previous(folder).exists():
        raise UserError(f"{folder.root}: the last rollover is not finished; finish it with: rollover finish")
    if not _next(folder).exists():
        key = new_key()
        write_file(_next_key(folder), key_pem(key, passphrase))
        write_file(_next(folder), certificate_pem(issue_ca(key, folder.settings.name, days)))
    both = [load_certificates(folder.ca_certificate)[0], load_certificates(_next(folder))[0]]
    write_file(folder.trust, certificate_pem(*both))


def switch(folder: Folder, passphrase: bytes | None, days: int) -> None:
    """Make the next CA the current one, and sign the server certificate with it."""
    if _next(folder).exists():
        if len(load_certificates(folder.trust)) < 2:
            raise UserError(f"{folder.trust} does not contain both CAs; start with: rollover start")
        write_file(_previous(folder), read_file(folder.ca_certificate))
        os.replace(_next(folder), folder.ca_certificate)
    if _next_key(folder).exists():
        os.replace(_next_key(folder), folder.ca_key)
    if not _previous(folder).exists():
        raise UserError(f"{folder.root}: there is no second CA; start with: rollover start")
    renew_server(folder, passphrase, days)


def finish(folder: Folder) -> None:
    """Trust only the new CA."""
    if _next(folder).exists() or not _previous(folder).exists():
        raise UserError(f"{folder.root}: no rollover to finish; the steps are rollover start, switch, finish")
    write_file(folder.trust, read_file(folder.ca_certificate))
    _previous(folder).unlink()


def _next(folder: Folder) -> Path:
    return folder.ca_certificate.with_name("next.crt")


def _next_key(folder: Folder) -> Path:
    return folder.ca_certificate.with_name("next.key")


def _previous(folder: Folder) -> Path:
    return folder.ca_certificate.with_name("previous.crt")
