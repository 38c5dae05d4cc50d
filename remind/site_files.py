"""Names of the files that a site stores between rounds; loads no torch, for programs that compute nothing."""

from pathlib import Path

FOLDER = "sites"  # in a run's folder: a folder for each site
STATE, INDEX = "state.pt", "history.json"  # in a site's folder
VERSION = "~"  # state.pt~7 is the state after seven rounds
ENDED = "ended"  # content of the index of a run that has ended


def stored_rounds(site: Path) -> set[int]:
    """Return the numbers of rounds after which a site's folder has the state."""
    versions = (path.name.partition(VERSION)[2] for path in site.glob(f"{STATE}{VERSION}*"))
    return {int(text) for text in versions if text.isdecimal()}  # others are written at the moment


def encoder_file(name: str, digest: str) -> str:
    """Return the name of the file with the weights of an encoder that have this digest."""
    return f"encoder-{name}-{digest[:40]}.pt"
