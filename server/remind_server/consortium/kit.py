"""A kit: the files that a hospital needs to join.

It holds configuration and public keys only, so it may be sent by mail.
"""

import re
from pathlib import Path

from remind.config_toml import literal
from remind.consortium.enrolment import SLUG
from remind.errors import UserError
from remind_server.consortium.certificates import load_certificates
from remind_server.consortium.folder import Folder, read_file
from remind_server.consortium.settings import Consortium

_PRIVATE = b"PRIVATE KEY"


def write_kit(folder: Folder, site: str, out: Path) -> Path:
    """Write the kit of `site` into a new folder of this name in `out`; return the folder.

    Raises
    ------
    UserError
        The name is not valid, or the folder exists already or cannot be written.
    """
    if not re.fullmatch(SLUG, site):
        raise UserError(f"kit: {site!r} is not a valid site name; use at most 63 letters, digits, dots and dashes")
    settings = folder.settings
    trust = read_file(folder.trust)
    load_certificates(folder.trust)
    if _PRIVATE in trust:
        raise UserError(f"{folder.trust} contains a private key, which must not be sent; remove it from the file")
    kit = out / site
    try:
        out.mkdir(parents=True, exist_ok=True)
        kit.mkdir()
    except FileExistsError:
        raise UserError(f"{kit} exists already; remove it, or choose another --out") from None
    except OSError as error:
        raise UserError(f"{kit}: cannot create it: {error.strerror}") from None
    (kit / "ca.crt").write_bytes(trust)
    (kit / "site.toml").write_text(site_toml(settings, site), encoding="utf-8")
    (kit / "README.md").write_text(_readme(settings, site), encoding="utf-8")
    return kit


def site_toml(settings: Consortium, site: str) -> str:
    """Return the template from which `remind-site init` makes a hospital's ``site.toml``."""
    return f"""\
# A hospital of the consortium {settings.name}: its name and the coordinator's address. `remind-site init` creates your
# own site.toml from this file, where you decide everything else (docs/hospital-guide.md).
site = {literal(site)}

[coordinator]
consortium = {literal(settings.name)}
address = {literal(settings.address)}
ca_certificate = "ca.crt"  # beside this file
"""


def _readme(settings: Consortium, site: str) -> str:
    return f"""\
# {site} joins {settings.name}

This folder contains no secrets: the certificate that identifies the coordinator (`ca.crt`), its address and your
name (`site.toml`). You create your key on your own machine, and it never leaves it.

1. Install federated-remind, or use its container (docs/hospital-guide.md).
2. `remind-site init THIS-FOLDER --folder site --cohort YOUR-COHORT` creates your settings, your key and a request.
3. Send `site/enrolment-request.json` to the coordinator. It contains your public key; it is not secret either.
4. The coordinator telephones. Compare the whole fingerprint that `remind-site init` printed with theirs: this call
   prevents a stranger from joining in your name.
5. Set in `site/site.toml` what you allow. Then run `remind-site check` and `remind-site run`. Your firewall must
   allow *outgoing* connections to {settings.address}; there are no incoming ones.
"""
