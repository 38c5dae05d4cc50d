"""Presets: run configs by name, such as ``paper``. ``remind`` is none: it is what the defaults are.

They lie in ``simulation/presets``; a wheel carries them inside this package.
"""

from pathlib import Path

PRESET_SUFFIX = ".toml"


def preset_files() -> dict[str, Path]:
    """Name → file of every preset."""
    packaged = Path(__file__).parent / "presets"
    folder = packaged if packaged.is_dir() else Path(__file__).parents[2] / "simulation" / "presets"
    return {path.stem: path for path in sorted(folder.glob(f"*{PRESET_SUFFIX}"))}
