"""The commands ``remind backup`` and ``remind restore``."""

from pathlib import Path
from typing import Annotated

import typer


def backup_command(
    folder: Annotated[Path, typer.Argument(help="Folder of a consortium, of a hospital's site, or of results.")],
    file: Annotated[Path, typer.Argument(help="The backup to write, such as heart.tar.gz; it must not exist.")],
) -> None:
    """Write a folder to one file, also while programs use it. The file is as confidential as the folder."""
    from remind.backup.archive import links, write_backup

    print(f"{file}: {write_backup(folder, file)} files of {folder}; only its owner can read it")
    if left_out := links(folder):
        print(f"warning: not in it, because they are links to other places: {', '.join(left_out)}; back these up too")


def restore_command(
    file: Annotated[Path, typer.Argument(help="A file that `remind backup` wrote.")],
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")],
) -> None:
    """Restore a backup into a new or empty folder, after every file was compared with its digest."""
    from remind.backup.archive import restore_backup

    print(f"{folder}: {restore_backup(file, folder)} files restored from {file}")
