"""The roster: hospitals and their public keys, as they gave them to each other and not to the coordinator alone.

A TOML file, one line a hospital, in the form of an ``.pub`` file: ``name = "ecdsa-sha2-nistp384 …"``. By it a hospital
knows that the masks in its sums are those of the other hospitals, and not of a coordinator that pretends to be them.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path

from remind.consortium.enrolment import load_public_key
from remind.errors import UserError, several


def read_roster(path: Path) -> dict[str, str]:
    """Return hospital → public key (OpenSSH, without a comment).

    Raises
    ------
    UserError
        The file cannot be read or is empty, an entry is no key, or two have one.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(
            f"{path}: the roster cannot be read: {error.strerror}; compare the keys with the other hospitals, then "
            'write one line for each: name = "its public key"'
        ) from None
    except ValueError as error:
        raise UserError(
            f'{path}: the roster is no TOML: {error}; write one line for each hospital: name = "its public key"'
        ) from None
    if not content:
        raise UserError(f'{path}: the roster is empty; write one line for each hospital: name = "its public key"')
    problems: list[str] = []
    owner: dict[str, str] = {}
    for name, key in content.items():
        try:
            load_public_key(str(key))
            if (other := owner.setdefault(" ".join(str(key).split()[:2]), name)) != name:
                problems.append(f"{name}: has the key of {other}; each hospital has one of its own")
        except UserError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise several(f"{path}: the roster is not valid:", problems)
    return {name: str(key) for name, key in content.items()}


def roster_text(keys: Mapping[str, str]) -> str:
    """Return the file's content for these hospitals."""
    return "".join(f'"{name}" = "{key}"\n' for name, key in sorted(keys.items()))
