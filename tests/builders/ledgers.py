"""What a ledger shows."""

from typer.testing import CliRunner

from remind_client.command import app


def shown(site, *options):
    done = CliRunner().invoke(app, ["ledger", "--config", str(site.base), *options])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output
