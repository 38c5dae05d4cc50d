"""Presets: run configs by name, such as ``paper``. ``remind`` is not a preset: it means the defaults.

The files are in ``simulation/presets``; a wheel contains them inside this package, in ``preset_files``.
"""

from pathlib import Path

PRESET_SUFFIX = ".toml"


def preset_files() -> dict[str, Path]:
    """Name → file of every preset."""
    packaged = Path(__file__).parent / "preset_files"
    folder = packaged if packaged.is_dir() else Path(__file__).parents[1] / "simulation" / "presets"
    return {path.stem: path for path in sorted(folder.glob(f"*{PRESET_SUFFIX}"))}
