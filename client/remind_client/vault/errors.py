"""The one exception of the vault."""

from remind.errors import UserError


class VaultError(UserError):
    """A file that cannot be decrypted: wrong key, changed, truncated, moved, or not encrypted."""
