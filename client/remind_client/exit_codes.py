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
        "The command succeeded. `run` or `serve` was stopped by SIGTERM or SIGINT; all its processes have ended, and "
        "open requests were answered.",
        "None. The last entry of the audit log says whether the current message was finished.",
    ),
    Exit.MISTAKE: Meaning(
        "A setting, a file or an argument is wrong",
        "site.toml, a certificate, the key or an argument is missing or not valid; the state folder is in use; a port "
        "is taken. `serve`: the folder of --model contains no model, or one of another version; without any model in "
        "the site's state it waits for one and does not end.",
        "Standard error has one message that names the file, the field, the value and the remedy. Nothing was changed.",
    ),
    Exit.USAGE: Meaning(
        "The command line is not valid",
        "An unknown command or option, or an argument is missing.",
        "Add `--help` to the command.",
    ),
    Exit.CHECK_FAILED: Meaning(
        "`check`: a check failed",
        "At least one check failed. Each failure is printed with its remedy; `--json` prints the same as JSON.",
        "Correct the printed failures and run `remind-site check` again. Warnings alone do not cause this code.",
    ),
    Exit.AUDIT_BROKEN: Meaning(
        "`audit verify`: the chain is broken",
        "A line of the log was changed, inserted, removed or left incomplete, or a stored head is not in the log. "
        "If only the last line is incomplete, the cause was a crash while writing.",
        "Find out who could write to the folder. Keep an unchanged copy elsewhere. An incomplete last line is moved by "
        "the site's next start to a file beside the log, and logged.",
    ),
    Exit.VAULT: Meaning(
        "The vault cannot open a file",
        "The wrong key, or a file that was changed, cut, moved or never encrypted. Without a vault: a file of a run "
        "that was changed or cut.",
        "Provide the key whose id the message names, or restore the file. `remind-site vault seal` encrypts files "
        "stored before there was a vault. You may remove a run's folder: the site then restarts that run.",
    ),
    Exit.DISK: Meaning(
        "The disk cannot be written",
        "The disk of the file that the message names is full, over this user's quota, or read-only. In a run, the "
        "coordinator is told `the site cannot store its state: the disk is full` and continues without this site.",
        "Free disk space, or make the disk writable for this user. No file is half-written: the site takes part again "
        "in the next round. `remind-site check` shows the free space; `[retention]` in site.toml says which old runs "
        "to keep.",
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
        "The processes that `run` keeps running have their own exit codes. They are in the log (`supernode ended (exit "
        "code 1)`) and on the health page; the site restarts the processes. The usual one of Flower is 305: "
        "the coordinator refuses this site, because its key is not enrolled or was revoked, or because the "
        "coordinator still counts its last session, which passes within a minute.",
        "",
    ]
    return "\n".join(parts)


if __name__ == "__main__":
    print(to_markdown(), end="")
