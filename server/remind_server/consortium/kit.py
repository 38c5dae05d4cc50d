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
    """Write the kit of `site` into a new folder of its name in `out`; that folder.

    Raises
    ------
    UserError
        If the name is none, the folder is there already, or cannot be written.
    """
    if not re.fullmatch(SLUG, site):
        raise UserError(f"kit: {site!r} is no name of a site; use letters, digits, dots and dashes, 63 at most")
    settings = folder.settings
    trust = read_file(folder.trust)
    load_certificates(folder.trust)
    if _PRIVATE in trust:
        raise UserError(f"{folder.trust} holds a private key, which must not travel; take it out of that file")
    kit = out / site
    try:
        out.mkdir(parents=True, exist_ok=True)
        kit.mkdir()
    except FileExistsError:
        raise UserError(f"{kit} is there already; remove it, or choose another --out") from None
    except OSError as error:
        raise UserError(f"{kit}: cannot make it: {error.strerror}") from None
    (kit / "ca.crt").write_bytes(trust)
    (kit / "site.toml").write_text(site_toml(settings, site), encoding="utf-8")
    (kit / "README.md").write_text(_readme(settings, site), encoding="utf-8")
    return kit


def site_toml(settings: Consortium, site: str) -> str:
    """What `remind-site init` makes a hospital's ``site.toml`` of."""
    return f"""\
# A hospital of the consortium {settings.name}: who it is, and whom it connects to. `remind-site init` makes your own
# site.toml of it, in which the rest is yours to say (docs/hospital-guide.md).
site = {literal(site)}

[coordinator]
consortium = {literal(settings.name)}
address = {literal(settings.address)}
ca_certificate = "ca.crt"  # beside this file
"""


def _readme(settings: Consortium, site: str) -> str:
    return f"""\
# {site} joins {settings.name}

In this folder is nothing secret: the certificate by which you recognise the coordinator (`ca.crt`), its address and
your name (`site.toml`). Your key is made by you, on your machine, and never leaves it.

1. Install federated-remind, or use its container (docs/hospital-guide.md).
2. `remind-site init THIS-FOLDER --folder site --cohort YOUR-COHORT` makes your settings, your key and a request.
3. Send `site/enrolment-request.json` to the coordinator. It holds your public key; it is no secret either.
4. The coordinator telephones. Compare the fingerprint that `remind-site init` has printed with theirs, all of it: this
   call is what keeps a stranger from joining in your name.
5. Say in `site/site.toml` what you allow. Then `remind-site check`, and `remind-site run`. Your firewall must let
   connections *out* to {settings.address}; none comes in.
"""
