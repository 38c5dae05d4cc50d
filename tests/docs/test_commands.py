"""Every command of README and docs is one that works: parsed by bash and by the real command lines, settings validated.

`test_typed.py` runs them.
"""

import re
import shutil
from pathlib import Path

import click
import pytest
import typer

from remind.config import Config
from remind.methods import methods_of
from remind_server.simulation.flwr_pairs import read_pairs
from tests.docs import reader
from tests.docs.commands import CHECKED, DOCUMENTS, NOT_CHECKED, ROOT, SHELL, blocks, words_of
from tests.docs.typed_words import ALONE, CODES, GUIDES, HOSPITAL, MORE, NOT_HERE, PORTS, SERVERS, at_start, excuse

BLOCKS = [block for document in DOCUMENTS for block in blocks(document)]
IMPORT = ["remind", "data", "import"]  # of files that are not public: each importer has a test of its command


@pytest.fixture
def folder(tmp_path):
    for name in ("simulation", "benchmarks"):
        # Commands write: none may reach the repository. Another worker's caches may vanish while they are copied.
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def remind_command() -> click.Command:
    from remind.cli import whole_app

    return typer.main.get_command(whole_app())


def flwr_command() -> click.Command:
    import flwr.cli.app

    return typer.main.get_command(flwr.cli.app.app)


def site_command() -> click.Command:
    from remind_client.command import app

    return typer.main.get_command(app)


def parsed(command: click.Command, words: list[str]) -> tuple[str, dict]:
    """Name of the innermost command and its values; a click error where the command line would refuse."""
    context = command.make_context(words[0], list(words[1:]))
    while isinstance(command, click.Group):
        rest = [*context.protected_args, *context.args] if hasattr(context, "protected_args") else context.args
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, list(rest), parent=context)
    return context.info_name, context.params


def check(words: list[str], folder: Path, monkeypatch) -> None:
    """Fail unless the program would take these words, and a run these settings."""
    program = words[0]
    if program == "python":
        assert words[1] == "-m" or (ROOT / words[1]).is_file(), words
        return
    if "--help" in words or "-h" in words:
        words = [word for word in words if word not in ("--help", "-h")]
        command: click.Command = {"remind": remind_command, "flwr": flwr_command, "remind-site": site_command}[
            program
        ]()
        for word in words[1:]:
            assert isinstance(command, click.Group)
            command = command.commands[word]
        return
    command = {"remind": remind_command, "flwr": flwr_command, "remind-site": site_command}[program]()
    name, given = parsed(command, words)
    monkeypatch.chdir(folder)
    typed = given.get("run_config") or given.get("run_config_overrides")
    values = read_pairs(list(typed) if typed else None, "--run-config")
    config = Config.from_flat(values)
    methods_of(config)
    if name == "bench" and given["study"] != "list":
        from remind_studies.arms import read_arms
        from remind_studies.study import registry

        method, options = registry.choose(given["study"])
        read_arms(given["methods"] or method.build(options).methods, values)
    if program == "flwr" and name == "run":
        assert (folder / given["app"] / "pyproject.toml").is_file()
        read_pairs(given["federation_config_overrides"], "--federation-config", presets=False)
    named = str(given.get("cohort") or given.get("cohort_option") or "")
    assert not named.startswith("simulation/") or (ROOT / named).is_file(), f"{named} is not there"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_is_understood(document, folder, monkeypatch):
    """In the order of the document, in one folder: a file that one line makes is there for the next."""
    problems = []
    for block in blocks(document):
        commands, said = words_of(block, folder)
        if (
            "outside the folder" in said
            or "unknown program" in said
            or "syntax error" in said
            or "unexpected EOF" in said
        ):
            problems.append(
                f"{block.name}: {said.strip()}; if it is no command or needs no check, tests/docs/commands.py says so"
            )
        for words in commands:
            if words[0] in CHECKED:
                try:
                    check(words, folder, monkeypatch)
                except (Exception, SystemExit) as error:
                    problems.append(f"{block.name}: {' '.join(words)}\n    {getattr(error, 'message', '') or error!r}")
            else:
                assert words[0] in NOT_CHECKED
    assert not problems, "\n".join(problems)


def test_commands_are_found_and_broken_ones_are_noticed(folder, tmp_path, monkeypatch):
    assert len(BLOCKS) > 50
    text = "    remind simulate -c 'train.lr=1 \\\n        seed=1'\n\n    frobnicate now\n"
    document = tmp_path / "new.md"
    document.write_text(f"Words.\n\n{text}\nMore.\n\n    pip install x\n", encoding="utf-8")
    first, *_ = found = blocks(document)
    assert [block.line for block in found] == [3, 10]
    commands, said = words_of(first, folder)
    assert "unknown program: frobnicate" in said
    with pytest.raises(Exception, match="not key=value"):
        check(commands[0], folder, monkeypatch)
    with pytest.raises(click.ClickException):
        check(["remind", "simulate", "--num-clientz", "3"], folder, monkeypatch)


def test_no_command_falls_between(folder):
    """Each command is typed by `test_typed`, or another program's, or excused with the test that does it."""
    typed = others = excused = 0
    for document in DOCUMENTS:
        for words in reader.commands(document, folder):
            if not excuse(words):
                assert document.name in (*ALONE, *GUIDES), f"{document.name}: nobody types {words}"
                assert not [word for word in words if "…" in word], f"{document.name}: nobody can type {words}"
                typed += 1
            elif words[0] in NOT_CHECKED:
                others += 1
            else:
                assert at_start(words, NOT_HERE, None), f"{document.name}: nothing excuses {words}"
                excused += words[:3] != IMPORT
    assert typed > 120
    assert excused < 22 < others


@pytest.mark.parametrize("test", sorted({excused.test for excused in NOT_HERE.values()}))
def test_what_excuses_a_command_is_a_test(test):
    file, _, name = test.partition("::")
    assert re.search(rf"^def {name}\(", (ROOT / file).read_text("utf-8"), re.MULTILINE), f"{test} is not there"


def test_every_line_of_a_block_that_begins_with_a_program_is_a_command(folder):
    """Bash runs what stands behind `||` only after a failure, and nothing of a function or a here-document."""
    programs = (*CHECKED, *NOT_CHECKED)
    for block in BLOCKS:
        whole = block.text.replace("\\\n", " ")
        lines = [line for line in whole.splitlines() if line.split(None, 1)[:1] and line.split()[0] in programs]
        assert len(words_of(block, folder)[0]) >= len(lines), block.name
        assert " || " not in whole, block.name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_blocks_of_other_languages_hold_no_commands(document):
    """What is fenced as toml, json or text is not typed, so no command may stand there."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```", document.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    others = [text for language, text in fenced if language not in SHELL]
    program = re.compile(rf"^\s*(?:\$ )?(?:{'|'.join(CHECKED)}) \S", re.MULTILINE)
    assert not [found[0] for text in others if (found := program.search(text))]


def test_what_is_excused_or_shortened_stands_in_a_document(folder):
    """No list keeps what the documents have given up; and what is not typed is little."""
    words = [words for document in DOCUMENTS for words in reader.commands(document, folder)]
    for table in (MORE, NOT_HERE, SERVERS, HOSPITAL, CODES, PORTS):
        assert not [key for key in table if not any(tuple(w[: len(key)]) == key for w in words)]
    assert {w[0] for w in words} >= NOT_CHECKED.keys()
    assert sum(key[:3] != tuple(IMPORT) for key in NOT_HERE) <= 14
