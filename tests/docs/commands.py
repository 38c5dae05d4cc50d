"""Shell commands of the documents, as parsed by bash.

Commands stand in indented blocks, and in fenced blocks marked sh, bash or shell. Bash itself splits them into words, so
that a quotation mark or a line break in the wrong place is found: every program is replaced by a function that writes
down what it was given. Only what makes small files (printf, mkdir) runs.
"""

import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
END = "\x1e"  # ends the words of a command; at a line's end bash would write what it has so far
SHELL = ("sh", "bash", "shell", "console")

# The first word of an indented block that is no command: a file's content, a drawing, a message, code.
NO_COMMAND = (
    *(
        "patient_id",
        "item,unit",
        "phenotype,version",
        "Temperature,",
        "Lactate,",
        "labs.csv,",
        "method.fusion",
        "Pr(",
        "hospitals ",
        "SuperNode ",
    ),
    *("class ", "@registry", "def ", "from ", "my-cohort/", "remind/   ", "(1/J"),
    *("remind\n", "remind_server\n", "remind_client\n", "remind_studies\n"),  # floors
    "F_l = ",
)
# What is written for a person, and what stands for it here.
PLACEHOLDERS = {"<run>": "RUN", "[--last 50] [--event refused] [--json]": "--last 50 --event refused --json"}
CHECKED = ("remind", "remind-site", "flwr", "python")
TAKES_NOTHING = (["remind", "config"], ["remind", "methods"], ["remind", "bench", "list"])
# A word that makes a command of a command's name: an option, a path, a placeholder; the app; a script.
OPTION = re.compile(r"^-|[/=(]|^[A-Z]{3,}")
ASKS = {"remind": OPTION, "remind-site": OPTION, "flwr": re.compile(r"^simulation/$"), "python": re.compile(r"\.py$")}
BLOCK = re.compile(r"^(?: {4}[^\n]*|```.*?^```)$", re.MULTILINE | re.DOTALL)
# Programs whose commands are not looked into, and why.
NOT_CHECKED = {
    "python3": "makes a virtual environment",
    "pip": "installs packages; .ci/run does so from the same file",
    "/opt/remind/bin/pip": "installs packages on a server",
    ".": "activates a virtual environment",
    "pytest": "is what runs this",
    "apt-get": "changes the machine",
    "systemctl": "changes the machine",
    "useradd": "changes the machine",
    "cp": "writes to the machine's system folders",
    "chmod": "of system folders",
    "mv": "of system folders",
    "docker": "needs a daemon; tests/**/test_deploy*.py look at the files it reads",
    "kubectl": "needs a cluster",
    "helm": "needs a cluster; tests look at the charts",
    "curl": "asks a server; tests/docs/reader.py asks for the health of those that it starts",
    "ssh": "asks a server that is not there",
    "journalctl": "of a server",
    "tensorboard": "serves for ever; a program of others",
    "hf": "downloads; a program of others",
    ".ci/run": "runs these tests",
    "cat": "reads what others print",
    "head": "reads what others print",
    "sed": "reads what others print",
    "grep": "reads what others print",
}


@dataclass(frozen=True)
class Block:
    """Indented or fenced lines that are commands."""

    document: Path
    line: int
    text: str

    @property
    def name(self) -> str:
        return f"{self.document.name}:{self.line}"


def blocks(document: Path) -> list[Block]:
    """The blocks of commands of a document."""
    found: list[Block] = []
    lines, start, fence = document.read_text(encoding="utf-8").splitlines(), None, None
    for number, line in enumerate([*lines, ""], 1):
        if line.lstrip().startswith("```"):
            if fence is None:
                fence, start = (line.strip("` ") or "text"), number
            else:
                if fence in SHELL:
                    found.append(Block(document, start + 1, "\n".join(lines[start : number - 1])))
                fence, start = None, None
            continue
        if fence is not None:
            continue
        if line.startswith("    ") and line.strip():
            if start is None and not lines[number - 2].strip():
                start = number
        elif start is not None and not (not line.strip() and number < len(lines) and lines[number].startswith("    ")):
            text = "\n".join(text[4:] for text in lines[start - 1 : number - 1])
            if not text.startswith(NO_COMMAND):
                found.append(Block(document, start, text))
            start = None
    return found


def words_of(block: Block, folder: Path) -> tuple[list[list[str]], str]:
    """Each command of a block as its words, and what bash said against the block; files are made in `folder`."""
    text = block.text
    for written, meant in PLACEHOLDERS.items():
        text = text.replace(written, meant)
    if re.search(r">\s*[/~$]", text):
        return [], "writes outside the folder; leave that to the reader"
    log = folder / "words"
    log.unlink(missing_ok=True)
    # One write for each command: the commands of a pipe run at the same time.
    note = f'printf "%s\\0" "$@" "{END}" >> "$REMIND_WORDS"'
    functions = "\n".join(f'function {name} {{ set -- {name} "$@"; {note}; }}' for name in (*CHECKED, *NOT_CHECKED))
    unknown = 'command_not_found_handle() { echo "unknown program: $1" >&2; return 127; }'
    script = f"{functions}\n{unknown}\n{text}\n"
    done = subprocess.run(
        [str(shutil.which("bash")), "-c", script],
        cwd=folder,
        env={"PATH": "/nowhere", "HOME": str(folder), "REMIND_WORDS": str(log)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    found = log.read_text(encoding="utf-8").split(f"\0{END}\0") if log.exists() else []
    return [line.split("\0") for line in found if line], re.sub(r"^bash: line \d+: ", "", done.stderr)


def spans(document: Path) -> list[tuple[int, list[str]]]:
    """Line and words of each command that stands in a line of text, in backticks, with something to do.

    The bare name of a command (`remind bench`) is none, unless the command takes nothing.
    """
    text = BLOCK.sub(lambda block: "\n" * block[0].count("\n"), document.read_text("utf-8"))
    found = []
    for span in re.finditer(r"`([^`]+)`", text):
        try:
            words = shlex.split(span[1].replace("\n", " "))
        except ValueError:  # no command: a quotation mark alone
            continue
        program, *rest = words or [""]
        if program in CHECKED and (words in TAKES_NOTHING or any(ASKS[program].search(word) for word in rest)):
            found.append((text.count("\n", 0, span.start()) + 1, words))
    return found
