"""``remind-site``: a hospital's command line."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from remind.cli_options import HELP_NAMES, version_option
from remind.disk import disk_error
from remind.errors import UserError
from remind_client.exit_codes import Exit
from remind_client.model_commands import adapt, export, predict, serve
from remind_client.refusal import words_within
from remind_client.site_option import HERE, SiteFile
from remind_client.vault.errors import VaultError

app = typer.Typer(
    name="remind-site",
    help="Run a hospital's site in a consortium: it keeps its data and encoders, and decides what is allowed.",
    no_args_is_help=True,
    context_settings=HELP_NAMES,
    pretty_exceptions_enable=False,
)
audit_app = typer.Typer(help="The log of requests to this site and of its answers.", no_args_is_help=True)
vault_app = typer.Typer(help="Encryption of the site's stored files.", no_args_is_help=True)
app.add_typer(audit_app, name="audit")
app.add_typer(vault_app, name="vault")


@app.callback()
def _root(version: Annotated[bool, version_option("remind-site")] = False) -> None:
    """Run a hospital's site in a consortium: it keeps its data and encoders, and decides what is allowed."""


@app.command("init")
def init(
    kit: Annotated[Path, typer.Argument(help="Kit: the folder that the coordinator sent.")],
    folder: Annotated[Path, typer.Option(help="Folder of the site; created if missing.")] = HERE.parent,
    cohort: Annotated[str, typer.Option(help="Folder of the site's cohort.")] = "",
    location: Annotated[str, typer.Option(help="LATITUDE,LONGITUDE or text; the consortium sees it.")] = "",
    new_key: Annotated[
        bool, typer.Option("--new-key", help="Create a new key pair; the old one is renamed and kept.")
    ] = False,
) -> None:
    """Create site.toml, the key pair (the private key never leaves) and the enrolment request."""
    from remind_client.initialise import initialise

    made = initialise(kit, folder, cohort, location, new_key)
    print(f"settings: {made.config}")
    if made.vault_key is not None:
        print(f"the vault's key: {made.vault_key}; keep a copy: without it, the encrypted data is lost")
    print(f"send to the coordinator: {made.request}")
    print(f"and read this out to them over the telephone: {made.fingerprint}")


@app.command("check")
def check(
    config: SiteFile = HERE,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Validate everything before the site connects. Exit code 10 if something is wrong."""
    from remind_client.checks.every import run_checks
    from remind_client.checks.finding import all_in_order, to_json, to_text
    from remind_client.site_config import load_site_config

    findings = run_checks(load_site_config(config))
    print(to_json(findings) if as_json else to_text(findings))
    if not all_in_order(findings):
        raise typer.Exit(Exit.CHECK_FAILED)


@app.command("run")
def run(config: SiteFile = HERE) -> None:
    """Connect to the consortium and keep running; on SIGTERM finish the current message and exit."""
    from remind_client.site_config import FILE_NAME, load_site_config
    from remind_client.supervisor.run import run_site

    run_site(load_site_config(config), config / FILE_NAME if config.is_dir() else config)


for _name, _command in (("predict", predict), ("adapt", adapt), ("export", export), ("serve", serve)):
    app.command(_name)(_command)


@app.command("approve")
def approve(
    configuration: Annotated[
        str,
        typer.Argument(help="Fingerprint of a run config; without it, the command lists those that wait for approval."),
    ] = "",
    config: SiteFile = HERE,
    withdraw: Annotated[bool, typer.Option("--withdraw", help="Withdraw the approval.")] = False,
) -> None:
    """Approve runs of a configuration, where the policy has `approval = true`.

    The list says what each would cost a patient, before anything is spent.
    """
    from remind_client.approval import set_approval, waiting
    from remind_client.policy.configurations import changes_of
    from remind_client.run_plan import plan_lines
    from remind_client.site_config import load_site_config

    site = load_site_config(config)
    if configuration:
        set_approval(site, configuration, not withdraw)
        print(f"{'withdrawn' if withdraw else 'approved'}: {configuration}")
        return
    for fingerprint, run in waiting(site).items():
        print(f"{fingerprint}  last requested by run {run}")
        if (wanted := site.configurations.of(fingerprint)) is not None:
            for line in (*plan_lines(site, wanted), "settings: " + "; ".join(changes_of(wanted) or ["the defaults"])):
                print(f"  {line}")


@app.command("ledger")
def ledger(
    run: Annotated[str, typer.Argument(help="Only this run.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print a row per spend as CSV.")] = False,
    form: Annotated[
        bool, typer.Option("--form", help="Print a form on RUN for the data-protection officer, as Markdown.")
    ] = False,
    from_audit_log: Annotated[
        bool, typer.Option("--from-audit-log", help="First enter spends of the audit log that an old copy lacks.")
    ] = False,
    config: SiteFile = HERE,
) -> None:
    """Show what runs have spent of the patients' privacy, on what, and what is left (docs/privacy.md)."""
    from remind_client.audit.verify import verify
    from remind_client.ledger.account import account_of
    from remind_client.ledger.rollback import enter_lost
    from remind_client.ledger.show import to_csv, to_json, to_text
    from remind_client.privacy_form import form_of
    from remind_client.site_config import load_site_config

    def say(line: str) -> None:
        print(line, file=sys.stderr)  # what is printed stays JSON, CSV or a form

    if as_json + as_csv + form > 1:
        raise UserError("--json, --csv and --form: give one of them")
    site = load_site_config(config)
    if form and not run:
        raise UserError("--form: name the run that it is about: remind-site ledger RUN --form")
    if from_audit_log:
        if problems := verify(site.audit_log.folder).problems:
            say(f"warning: the audit log is damaged: {'; '.join(problems)}; spends may be missing in it")
        say(f"entered from the audit log: {enter_lost(site.privacy_ledger, site.audit_log)} spend(s)")
    if form:
        print(form_of(site, run), end="")
        return
    spends, limits = site.privacy_ledger.spends(run), site.policy.privacy
    if run and not spends:
        known = ", ".join(site.privacy_ledger.totals()) or "none"
        raise UserError(f"ledger: run {run!r} has spent nothing here; runs that have: {known}")
    account = account_of(site.privacy_ledger, limits.delta, limits.epsilon_per_run, limits.epsilon_for_life, run)
    print(to_csv(spends) if as_csv else to_json(account) if as_json else to_text(account), end="" if as_csv else "\n")


@app.command("roster")
def roster(config: SiteFile = HERE) -> None:
    """Print the hospitals of this site's roster with the fingerprints of their keys, to compare by telephone."""
    from remind.consortium.enrolment import fingerprint
    from remind.consortium.roster import read_roster
    from remind.errors import UserError
    from remind_client.site_config import load_site_config

    site = load_site_config(config)
    if not site.roster:
        raise UserError(
            'site.toml: roster is missing: name the file with all hospitals\' keys, such as roster = "roster.toml"'
        )
    found = read_roster(site.path(site.roster))
    if site.site not in found:
        raise UserError(f"{site.path(site.roster)}: this hospital, {site.site}, is not in the roster; add its line")
    for name, key in sorted(found.items()):
        print(f"{name}  {fingerprint(key)}")


@audit_app.command("verify")
def audit_verify(
    config: SiteFile = HERE,
    head: Annotated[str, typer.Option(help="A stored head (SEQUENCE:HASH) that must be in the log.")] = "",
) -> None:
    """Verify every link of the hash chain. Exit code 11 if one is broken."""
    from remind_client.audit.chain import Head
    from remind_client.audit.verify import verify
    from remind_client.site_config import load_site_config

    noted = None
    if head:
        sequence, _, digest = head.partition(":")
        if not sequence.isdecimal() or len(digest) != 64:
            raise UserError(f"--head: {head!r} is not SEQUENCE:HASH as remind-site audit head prints it")
        noted = Head(int(sequence), digest)
    verdict = verify(load_site_config(config).audit_log.folder, noted)
    for problem in verdict.problems:
        print(f"broken: {problem}")
    for note in verdict.notes:
        print(f"note: {note}")
    if not verdict.ok:
        raise typer.Exit(Exit.AUDIT_BROKEN)
    print(f"valid: {verdict.entries} entries, head {verdict.head}")


@audit_app.command("head")
def audit_head(config: SiteFile = HERE) -> None:
    """Print the last entry's position and hash. Store them where this machine's administrator has no access."""
    from remind_client.audit.verify import verify
    from remind_client.site_config import load_site_config

    verdict = verify(load_site_config(config).audit_log.folder)
    if not verdict.ok or verdict.head is None:
        print("\n".join(f"broken: {problem}" for problem in verdict.problems))
        raise typer.Exit(Exit.AUDIT_BROKEN)
    print(verdict.head)


@audit_app.command("show")
def audit_show(
    config: SiteFile = HERE,
    last: Annotated[int, typer.Option(min=1, help="Number of entries to show, the newest ones.")] = 50,
    event: Annotated[str, typer.Option(help="Show only this kind: asked, answered, refused, policy, started, …")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the entries as JSON lines.")] = False,
) -> None:
    """Print what was requested of this site and what left it."""
    from remind_client.audit.show import to_text
    from remind_client.site_config import load_site_config

    entries = [e for e in load_site_config(config).audit_log.entries() if not event or e.get("event") == event]
    for entry in entries[-last:]:
        print(json.dumps(entry, sort_keys=True) if as_json else to_text(entry))


@vault_app.command("key")
def vault_key(file: Annotated[Path, typer.Argument(help="A new file.")]) -> None:
    """Create a key. Keep a copy in a safe place: without it, the encrypted data is lost."""
    from remind_client.vault.key import new_key_file

    print(f"key {new_key_file(file).id.hex()} in {file}")


@vault_app.command("seal")
def vault_seal(config: SiteFile = HERE) -> None:
    """Encrypt the files that this site stored unencrypted before it had a vault."""
    from remind_client.site_config import load_site_config
    from remind_client.supervisor.run import state_lock
    from remind_client.vault.rotate import seal

    site = load_site_config(config)
    key = site.vault_key()
    if key is None:
        raise UserError("vault: switched off in site.toml; remove enabled = false first")
    with state_lock(site):
        moved = seal(site.runs_folder, key)
    print(f"encrypted {moved.written} file(s) under key {key.id.hex()}; {moved.kept} were encrypted already")


@vault_app.command("rotate")
def vault_rotate(
    new_key: Annotated[Path, typer.Argument(help="File of the new key (remind-site vault key FILE).")],
    config: SiteFile = HERE,
) -> None:
    """Encrypt all files with a new key; then name the new key in site.toml. Can be repeated after a crash."""
    from remind_client.site_config import load_site_config
    from remind_client.supervisor.run import state_lock
    from remind_client.vault.key import key_from_file
    from remind_client.vault.rotate import rotate

    site = load_site_config(config)
    old, new = site.vault_key(), key_from_file(new_key)
    if old is None:
        raise UserError("vault: switched off in site.toml; there is nothing to rotate")
    with state_lock(site):
        moved = rotate(site.runs_folder, old, new)
    print(f"moved {moved.written} file(s) to key {new.id.hex()}; {moved.kept} had it already")
    print(f"now name {new_key} in site.toml (vault.key_file), then destroy the old key")


def main() -> None:
    """Run the command line; a user's mistake ends it with one message."""
    try:
        app()
    except (UserError, OSError) as error:
        full = disk_error(error)
        if full is None and not isinstance(error, UserError):
            raise
        print(f"error: {error if isinstance(error, UserError) else words_within(error)}", file=sys.stderr)
        code = Exit.DISK if full is not None else Exit.VAULT if isinstance(error, VaultError) else Exit.MISTAKE
        raise SystemExit(code) from None


if __name__ == "__main__":
    main()
