"""The one exception of the vault."""

from remind.errors import UserError


class VaultError(UserError):
    """A file that cannot be opened as what it claims to be: wrong key, changed, cut, moved, or not encrypted."""
