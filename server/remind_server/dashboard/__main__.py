"""``python -m remind_server.dashboard``: the same as ``remind dashboard``, without the rest of the command line."""

import sys

import typer

from remind.errors import UserError
from remind_server.dashboard.command import dashboard_command

if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(dashboard_command)
    try:
        app(prog_name="remind dashboard")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
