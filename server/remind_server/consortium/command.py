"""The commands ``remind consortium …``. Every `remind` command loads this file, so heavy imports are in functions."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from remind.errors import UserError
from remind_server.consortium import run_commands
from remind_server.consortium.command_options import (
    CHECK_FAILED,
    PassphraseFile,
    Where,
    confirmation,
    note,
    noted,
    open_folder,
    read_passphrase,
    warn,
)

consortium_command = typer.Typer(
    name="consortium",
    help="Manage a consortium of hospitals: create it, enrol and revoke hospitals, serve it, start runs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@consortium_command.command()
def init(
    where: Where,
    name: Annotated[str, typer.Option(help="Name of the consortium: letters, digits, dots, dashes.")],
    host: Annotated[
        list[str], typer.Option(help="Name or address at which hospitals reach the coordinator; may be repeated.")
    ],
    port: Annotated[int, typer.Option(help="Port at which hospitals reach it.")] = 443,
    listen: Annotated[
        str, typer.Option(help="ADDRESS:PORT the proxy listens on; default: all addresses, --port.")
    ] = "",
    days: Annotated[int, typer.Option(min=1, max=825, help="Days the server certificate is valid.")] = 365,
    ca_days: Annotated[int, typer.Option(min=1, max=7300, help="Days the CA is valid.")] = 3650,
    passphrase_file: PassphraseFile = None,
    unencrypted_ca_key: Annotated[
        bool, typer.Option(help="Leave the CA's key unencrypted, readable by its owner only.")
    ] = False,
) -> None:
    """Create a consortium: certificate authority, server certificate, settings."""
    from remind_server.consortium.make import make

    passphrase = None if unencrypted_ca_key else read_passphrase(passphrase_file, new=True)
    folder = make(where.absolute(), name, host, port, listen, passphrase, ca_days, days)
    note(folder, "init", consortium=name)
    print(f"consortium {name!r} in {folder.root}, for hospitals at {folder.settings.address}")
    print(f"next: remind consortium kit {where} SITE; remind consortium serve {where}")


@consortium_command.command()
def kit(
    where: Where,
    site: Annotated[list[str] | None, typer.Argument(metavar="[SITE]...", help="Names of hospitals.")] = None,
    all_sites: Annotated[bool, typer.Option("--all", help="Kits for all enrolled sites, e.g. after a new CA.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for the kits.")] = Path("kits"),
) -> None:
    """Write the kit for a hospital: CA certificate, address, settings to complete. Contains no secrets."""
    from remind_server.consortium.kit import write_kit
    from remind_server.consortium.ledger import read_ledger

    folder = open_folder(where, "kit")
    if bool(site) == all_sites:
        raise UserError("kit: give one or more site names, or --all")
    names = site or [s.name for s in read_ledger(folder.ledger).active()]
    if not names:
        raise UserError("kit: --all: no hospital is enrolled; give the names of those that will be")
    for name in names:
        with noted(folder, "kit", site=name):
            print(write_kit(folder, name, out))


@consortium_command.command()
def enrol(
    where: Where,
    request: Annotated[Path, typer.Argument(help="Enrolment request from the hospital.")],
    fingerprint: Annotated[
        str, typer.Option(help="Fingerprint that the hospital told you; without it, the command asks.")
    ] = "",
) -> None:
    """Enrol a hospital. First compare the fingerprint with the hospital, by telephone."""
    from remind_server.consortium.enrol import enrol as let_in
    from remind_server.consortium.flower import control

    folder = open_folder(where, "enrol")
    try:
        text = request.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{request}: cannot read it: {error}") from None
    with control(folder) as registry:
        site = let_in(folder, registry, text, confirmation(fingerprint))
    note(folder, "enrol", site=site.name, key=site.fingerprint)
    print(f"enrolled {site.name}: node {site.node_id}, key {site.fingerprint}")


@consortium_command.command("list")
def list_sites(
    where: Where,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show every site (online or not, last seen, key) and problems that need attention."""
    from remind_server.consortium.certificates import warnings
    from remind_server.consortium.listing import sites_json, sites_text

    folder = open_folder(where, "list")
    print(sites_json(folder) if as_json else sites_text(folder))
    warn(warnings(folder))


@consortium_command.command()
def roster(where: Where) -> None:
    """Print the roster for secure aggregation: all hospitals and their keys, for them to compare among each other."""
    from remind.consortium.roster import roster_text
    from remind_server.consortium.ledger import read_ledger

    sites = read_ledger(open_folder(where, "roster").ledger).active()
    if not sites:
        raise UserError("roster: no hospital is enrolled yet; enrol each with remind consortium enrol")
    print(roster_text({site.name: site.public_key for site in sites}), end="")


@consortium_command.command()
def revoke(where: Where, site: Annotated[str, typer.Argument(help="Name of the site.")]) -> None:
    """Revoke a hospital, immediately and permanently: its key cannot be enrolled again. Others are not affected."""
    from remind_server.consortium.enrol import revoke as let_out
    from remind_server.consortium.flower import control

    folder = open_folder(where, "revoke")
    with noted(folder, "revoke", site=site), control(folder) as registry:
        gone = let_out(folder, registry, site)
    print(f"revoked {gone.name}, key {gone.fingerprint}")


@consortium_command.command()
def repair(where: Where) -> None:
    """Register the sites of the ledger with the SuperLink again, after its database was lost."""
    from remind_server.consortium.enrol import repair as let_in_again
    from remind_server.consortium.flower import control

    folder = open_folder(where, "repair")
    with noted(folder, "repair"), control(folder) as registry:
        again = let_in_again(folder, registry)
    print("admitted again: " + (", ".join(site.name for site in again) or "none; the SuperLink knows them all"))


@consortium_command.command()
def renew(
    where: Where,
    days: Annotated[int, typer.Option(min=1, max=825, help="Days the new certificate is valid.")] = 365,
    ca_key: Annotated[Path | None, typer.Option(help="Path of the CA's key, if it is not in the folder.")] = None,
    passphrase_file: PassphraseFile = None,
    loopback: Annotated[
        bool, typer.Option(help="Renew the certificate between the coordinator's own processes instead.")
    ] = False,
) -> None:
    """Renew the server certificate for the hosts in consortium.toml. A running `serve` reloads it."""
    from remind_server.consortium.certificates import renew_loopback, renew_server

    folder = open_folder(where, "renew")
    with noted(folder, "renew", certificate="loopback" if loopback else "server"):
        if loopback:
            renew_loopback(folder)
            print("renewed; restart `remind consortium serve` between two runs")
            return
        ends = renew_server(folder, read_passphrase(passphrase_file), days, ca_key)
    print(f"renewed for {', '.join(folder.settings.public.hosts)}; valid until {ends:%Y-%m-%d}")


@consortium_command.command()
def rollover(
    where: Where,
    step: Annotated[str, typer.Argument(help="start, switch or finish.")],
    ca_days: Annotated[int, typer.Option(min=1, max=7300, help="Step start: days the new CA is valid.")] = 3650,
    days: Annotated[int, typer.Option(min=1, max=825, help="Step switch: days the server certificate is valid.")] = 365,
    passphrase_file: PassphraseFile = None,
    unencrypted_ca_key: Annotated[bool, typer.Option(help="Step start: leave the new key unencrypted.")] = False,
) -> None:
    """Replace the CA while hospitals stay connected ('A new CA' in the coordinator guide)."""
    from remind_server.consortium import rollover as steps

    folder = open_folder(where, "rollover")
    with noted(folder, "rollover", step=step):
        if step == "start":
            steps.start(folder, None if unencrypted_ca_key else read_passphrase(passphrase_file, new=True), ca_days)
            print(f"hospitals must now get new kits: remind consortium kit {where} --all; then: rollover switch")
        elif step == "switch":
            steps.switch(folder, read_passphrase(passphrase_file), days)
            print("the new CA signs now; when every hospital is online: rollover finish")
        elif step == "finish":
            steps.finish(folder)
            print("the old CA is gone; send new kits to the hospitals when convenient:", end=" ")
            print(f"remind consortium kit {where} --all")
        else:
            raise UserError(f"rollover: no step {step!r}; the steps are start, switch, finish")


@consortium_command.command()
def check(where: Where) -> None:
    """List all problems that prevent `serve`, or show the health of a running one. Exit code 10: problems found."""
    from remind_server.consortium.certificates import warnings
    from remind_server.consortium.listing import served_health
    from remind_server.consortium.preflight import problems, require_room

    folder = open_folder(where, "check")
    parts = served_health(folder)
    if parts is None:
        found = problems(folder)
    else:
        found = [f"{name}: {state}" for name, state in parts.items() if state != "ok"]
        try:
            require_room(folder)
        except UserError as error:
            found.append(str(error))
    warn(warnings(folder))
    if found:
        print("\n  - ".join([f"{folder.root}:", *found]), file=sys.stderr)
        raise typer.Exit(CHECK_FAILED)
    print("ready to serve" if parts is None else "served, and well")


@consortium_command.command()
def serve(where: Where) -> None:
    """Serve the consortium until SIGTERM: SuperLink, SuperExec, TLS proxy, health page."""
    from remind_server.consortium.serve import serve as keep_serving

    folder = open_folder(where, "serve")
    note(folder, "serve")
    keep_serving(folder)


for _command in (run_commands.bundle, run_commands.run, run_commands.resume, run_commands.runs, run_commands.stop):
    consortium_command.command()(_command)


@consortium_command.command("log")
def show_log(
    where: Where,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the log of operations on the consortium, oldest first. Exit code 10: the log was modified."""
    import json

    from remind_server.consortium.operations import read_operations, shown

    entries, found = read_operations(open_folder(where, "log"))
    for entry in entries:
        print(json.dumps(entry) if as_json else shown(entry))
    for problem in found:
        print(f"operations.jsonl: {problem}", file=sys.stderr)
    if found:
        raise typer.Exit(CHECK_FAILED)
