"""Set up the vault unless it is switched off: create a key if none is named, and encrypt existing files."""

from remind.errors import UserError
from remind_client.site_config import SiteConfig
from remind_client.vault.key import VaultKey, new_key_file
from remind_client.vault.rotate import Moved, is_sealed, seal


def make_key(site: SiteConfig) -> VaultKey | None:
    """Create the key of a site that names none; None if there is one, or if the vault is off.

    Raises
    ------
    UserError
        The key is gone, and files are under it: another one would not open them.
    """
    path = site.vault_key_path
    if not site.vault.enabled or site.vault.key_file or path is None or path.exists():
        return None
    if site.runs_folder.is_dir() and is_sealed(site.runs_folder):
        raise UserError(
            f"{path}: the vault's key is missing, and files in {site.runs_folder} are encrypted with it; restore it "
            "from your copy, or remove that folder: runs then start again"
        )
    return new_key_file(path)


def seal_what_is_clear(site: SiteConfig) -> Moved:
    """Encrypt files stored before the vault was on. The caller must hold the state folder (`state_lock`)."""
    key = site.vault_key()
    return Moved(0, 0) if key is None or not site.runs_folder.is_dir() else seal(site.runs_folder, key)
