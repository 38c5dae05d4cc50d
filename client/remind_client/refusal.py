"""Reasons that a site gives when it cannot answer. The text contains no paths, no values and nothing about patients."""

from remind.disk import disk_error, in_words, reason
from remind.errors import UserError
from remind.secagg.limits import RefusedError
from remind_client.ledger.budget import BudgetError
from remind_client.question import TooOldError
from remind_client.vault.errors import VaultError

ITS_LOG = "its own log says more"


def words_for(error: BaseException) -> str:
    """Return the reason that may leave the site."""
    if (full := disk_error(error)) is not None:
        return f"the site cannot store its state: {reason(full)}; {ITS_LOG}"
    if isinstance(error, TooOldError):
        return str(error)  # numbers of rounds
    if isinstance(error, BudgetError):
        return error.outside
    if isinstance(error, RefusedError):
        return str(error)  # of what the coordinator asked for, and of names of hospitals that it knows
    if isinstance(error, VaultError):
        return f"a file that the site keeps was changed, cut or moved, or is under another key; {ITS_LOG}"
    if isinstance(error, UserError):
        return "the site's cohort or settings are not valid; its own log says why"
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, of a GPU
        return f"the site's memory does not suffice; {ITS_LOG}"
    return f"internal error ({type(error).__name__}); the site's own log says more"


def words_within(error: BaseException) -> str:
    """Word the reason for the site's own log, or for the researcher who simulates all sites; empty: log a traceback."""
    if (full := disk_error(error)) is not None:
        return in_words(full)
    return str(error) if isinstance(error, UserError | TooOldError | BudgetError | RefusedError) else ""
