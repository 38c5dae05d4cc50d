"""Check that a refactoring leaves every method's numbers unchanged, to the last bit.

    python benchmarks/golden_runs.py BEFORE [AFTER] [--only rule-fedremind]

BEFORE and AFTER are commits; without AFTER it is the working tree. Each method runs on both sides, in two stages on the
same small synthetic cohort and five hospitals: every fusion model, every objective, every rule, every aggregator, and
REMIND with encoders at the site, frozen and shared. The tensors of the global model and all rows of `final.csv` are
compared. Both sides run on this machine, so that its rounding does not matter. Prints a line per method: `same`,
`DIFFERENT`, `FAILED`, or `new` for a method or a setting that BEFORE lacks. The exit code is 1 if a method differs or
fails.
"""

import argparse
import csv
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from hashlib import sha256
from pathlib import Path

from safetensors.numpy import load_file

from remind.federation.rules.base import registry as rules
from remind.methods_list import KINDS, listing
from remind.suggest import did_you_mean

ROOT = Path(__file__).resolve().parents[1]
PARTS = (".", "server", "client", "studies")  # what an editable install puts on the path
COMMON = (
    "synthetic.patients=300 train.warmup-rounds=2 train.routing-rounds=2 train.local-steps=3 train.batch=16 "
    'model.width=16 model.heads=2 model.experts=4 model.tokens=4 device="cpu"'
)
UNKNOWN = r"method\.\w+: (there is no|no such key)"  # what a run says of a method or a setting that it does not know
PLAIN = {"fusion": "remind", "objective": "groupdro", "rule": "fedremind"}
# One process per tree loads torch once; each run is a child of it, so that no run sees another's state.
RUNNER = """
import json, os, sys
import remind.cli, torch
torch.set_num_threads(1)
for folder, settings in json.load(sys.stdin):
    child = os.fork()
    if not child:
        out = os.open(folder + ".log", os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(out, 1), os.dup2(out, 2)
        sys.argv = ["remind", "simulate", "--num-clients", "5", "-c", settings + f' results="{folder}"']
        status = 1
        try:
            remind.cli.main()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        finally:
            sys.stdout.flush(), sys.stderr.flush(), os._exit(status)
    os.waitpid(child, 0)
"""


def main() -> int:
    """Run both sides, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", help="a commit")
    parser.add_argument("after", nargs="?", help="another commit; default: the working tree")
    parser.add_argument(
        "--only", action="append", metavar="METHOD", help="one of them, as it is printed; may be given again"
    )
    options = parser.parse_args()
    runs = dict(_runs())
    if options.only:
        if unknown := sorted(set(options.only) - runs.keys()):
            parser.error(f"--only {unknown[0]}: there is no such method{did_you_mean(unknown[0], runs)}")
        runs = {name: runs[name] for name in options.only}
    with tempfile.TemporaryDirectory() as scratch, _tree(options.before) as before, _tree(options.after) as after:
        sides = [Path(scratch) / side for side in ("before", "after")]
        for folder, tree in zip(sides, (before, after), strict=True):
            folder.mkdir()
            _run(tree, folder, runs)
        different = 0
        for name in runs:
            verdict = _verdict(*(folder / name for folder in sides))
            different += verdict.isupper()
            print(f"{verdict:9} {name}{_reason(*(folder / name for folder in sides)) if verdict == 'FAILED' else ''}")
    print(f"{len(runs)} runs, {different} of them not the same")
    return int(different > 0)


def _verdict(before: Path, after: Path) -> str:
    """Return the result of comparing two runs; failures are in capitals."""
    digests = [_digest(before), _digest(after)]
    if digests[0] is None and re.search(UNKNOWN, before.with_suffix(".log").read_text(encoding="utf-8")):
        return "new"
    if None in digests:
        return "FAILED"
    return "same" if digests[0] == digests[1] else "DIFFERENT"


def _reason(*runs: Path) -> str:
    """The last line that each failed run wrote, where one did."""
    logs = [path.with_suffix(".log").read_text(encoding="utf-8").splitlines() for path in runs if _digest(path) is None]
    return "".join(f": {line}" for line in dict.fromkeys(log[-1] for log in logs if log))


def _runs() -> Iterator[tuple[str, str]]:
    """Name and settings of each run."""
    for axis, _ in KINDS:
        for method in listing()[axis]:
            chosen = PLAIN | {axis: method["name"]}
            settings = [COMMON]
            if axis == "objective":
                chosen["rule"] = "lg"
            if axis == "rule":
                rule = rules.choose(method["name"])[0].build
                chosen["objective"] = "erm" if rule.weighs else chosen["objective"]  # only one of them weighs by risk
                if "local" not in rule.encoders:
                    settings.append('federation.encoders="shared"')
            settings += [f'method.{a}="{m}"' for a, m in chosen.items()]
            yield f"{axis}-{method['name']}", " ".join(settings)
    for place in ("local", "frozen", "shared"):
        yield f"encoders-{place}", f'{COMMON} federation.encoders="{place}"'


@contextmanager
def _checkout(commit: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(tree), commit], cwd=ROOT, check=True)
        try:
            yield tree
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=True)


def _tree(commit: str | None) -> AbstractContextManager[Path]:
    return nullcontext(ROOT) if commit is None else _checkout(commit)


def _run(tree: Path, folder: Path, runs: dict[str, str]) -> None:
    paths = os.pathsep.join(map(str, [_metadata(tree, folder), *(tree / part for part in PARTS)]))
    jobs = json.dumps([(str(folder / name), settings) for name, settings in runs.items()])
    environment = os.environ | {"PYTHONPATH": paths}
    subprocess.run([sys.executable, "-c", RUNNER], input=jobs, text=True, cwd=folder, env=environment, check=True)


def _metadata(tree: Path, folder: Path) -> Path:
    """Folder with the tree's own entry points: those that are installed name modules of the working tree."""
    project = tomllib.loads((tree / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    commands = project["entry-points"]["remind.commands"]
    info = folder / "metadata" / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = ["[remind.commands]", *(f"{name} = {function}" for name, function in commands.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return info.parent


def _digest(run: Path) -> str | None:
    """Digest of a run's tensors and final table; None if the run left none."""
    model, table = run / "model.safetensors", run / "final.csv"
    if not (model.exists() and table.exists()):
        return None
    digest = sha256()
    for name, tensor in sorted(load_file(model).items()):
        digest.update(f"{name} {tensor.dtype} {tensor.shape}".encode() + tensor.tobytes())
    with table.open(encoding="utf-8", newline="") as file:
        digest.update(repr(list(csv.reader(file))).encode())
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
