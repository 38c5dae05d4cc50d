"""Parses ``--run-config`` and ``--federation-config``, with presets, and writes them as one line.

Flower's own parser loses settings silently: of ``-c 'train.lr=1' -c 'train.batch=2'`` the first (the second table
``train`` replaces it), of ``-c 'seed'`` everything, and a text may not contain a quotation mark. We pass on one line
that it parses correctly.
"""

from collections.abc import Mapping, Sequence

from remind import config_pairs
from remind.config import Scalar
from remind.config_toml import literal
from remind.presets import preset_files


def read_pairs(given: Sequence[str] | None, option: str, presets: bool = True) -> dict[str, Scalar]:
    """Return values by key, as `config_pairs.read_pairs`; with `presets`, a value may be the name of a preset."""
    return config_pairs.read_pairs(given, option, preset_files() if presets else None)


def write_pairs(values: Mapping[str, Scalar]) -> list[str]:
    """Return the value for one ``--run-config`` or ``--federation-config``."""
    return [" ".join(f"{key}={literal(value)}" for key, value in values.items())]
