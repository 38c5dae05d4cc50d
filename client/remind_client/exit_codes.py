"""Exit codes of ``remind-site``, each with its cause and remedy. docs/exit-codes-site.md is made from this."""

from dataclasses import dataclass
from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of the commands."""

    OK = 0
    MISTAKE = 1
    USAGE = 2
    CHECK_FAILED = 10
    AUDIT_BROKEN = 11
    VAULT = 12
    DISK = 13


@dataclass(frozen=True)
class Meaning:
    """The cause of an exit code and its remedy."""

    title: str
    cause: str
    remedy: str


MEANINGS: dict[Exit, Meaning] = {
    Exit.OK: Meaning(
        "All is well",
        "The command did what it was asked. `run` or `serve` was stopped by SIGTERM or SIGINT; everything it had "
        "started is gone, and requests under way were answered.",
        "None. Whether the message at hand was finished is the last entry of the audit log.",
    ),
    Exit.MISTAKE: Meaning(
        "A setting, a file or an argument is wrong",
        "site.toml, a certificate, the key or an argument is missing or not valid; the state folder is in use; a port "
        "is taken. `serve`: the folder of --model holds no model, or one of another version; without any model in the "
        "site's state it waits for one and does not end.",
        "Standard error holds one message that names the file, the field, the value seen and what to do. Nothing was "
        "changed.",
    ),
    Exit.USAGE: Meaning(
        "The command line is not understood",
        "An unknown command or option, or an argument is missing.",
        "Add `--help` to the command.",
    ),
    Exit.CHECK_FAILED: Meaning(
        "`check`: something is not in order",
        "At least one check failed. Each failure is printed with its remedy; `--json` gives the same for machines.",
        "Put right what is printed, run `remind-site check` again. Warnings alone do not lead here.",
    ),
    Exit.AUDIT_BROKEN: Meaning(
        "`audit verify`: the chain is not whole",
        "A line of the log was changed, put in, taken out or left unfinished, or a head noted elsewhere is not in it. "
        "An unfinished last line alone is what a crash while writing leaves.",
        "Find out who could write to the folder. Keep it as it is, elsewhere. An unfinished last line is set aside by "
        "the site's next start, and logged.",
    ),
    Exit.VAULT: Meaning(
        "The vault cannot open something",
        "The wrong key, or a file that was changed, cut, moved or never encrypted. Without a vault: a file of a run "
        "that was changed or cut.",
        "Give the key whose id the message names, or restore the file. `remind-site vault seal` encrypts what was kept "
        "before there was a vault. A run's folder may be removed: the site then starts that run anew.",
    ),
    Exit.DISK: Meaning(
        "The disk takes nothing more",
        "The disk of the file that the message names is full, over this user's quota, or read-only. In a run, the "
        "coordinator is told `the site cannot keep what it must: the disk is full` and goes on without this site.",
        "Make room, or mount it so that this user can write. Nothing is half-written: the site takes part again in the "
        "next round. `remind-site check` says how much is free, `[retention]` in site.toml what of old runs is kept.",
    ),
}


def to_markdown() -> str:
    """Return the documentation page of all codes."""
    parts = [
        "# Exit codes of `remind-site`",
        "",
        "Made by `python -m remind_client.exit_codes > docs/exit-codes-site.md`.",
        "",
    ]
    for code, meaning in MEANINGS.items():
        parts += [
            f"## {int(code)}: {meaning.title}",
            "",
            f"**Cause.** {meaning.cause}",
            "",
            f"**Remedy.** {meaning.remedy}",
            "",
        ]
    parts += [
        "The processes that `run` keeps up end with codes of their own. They are in the log (`supernode ended (exit "
        "code 1)`) and on the health page; the site starts them again. Of Flower's, the one a hospital meets is 305: "
        "the coordinator does not take this site, because its key is not enrolled, was revoked, or because the "
        "coordinator still counts its last session, which passes within a minute.",
        "",
    ]
    return "\n".join(parts)


if __name__ == "__main__":
    print(to_markdown(), end="")
