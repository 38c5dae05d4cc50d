"""The option that names the site's settings, for all commands of ``remind-site``."""

from pathlib import Path
from typing import Annotated

import typer

HERE = Path("site.toml")
SiteFile = Annotated[Path, typer.Option("--config", "-c", envvar="REMIND_SITE", help="site.toml, or its folder.")]
