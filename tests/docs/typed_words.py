"""What somebody types for the commands of the documents: the words that make them short, and what is excused."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from tests.docs.commands import NOT_CHECKED

Value = TypeVar("Value")
SITES = ("cleveland", "hungarian", "switzerland", "va")
TINY = (
    "train.warmup-rounds=1 train.routing-rounds=1 train.local-steps=1 train.batch=8 model.width=8 model.heads=2 "
    "model.experts=2 model.tokens=4 train.lr=0.001 train.weight-decay=0.05 synthetic.patients=200"
)
SMALL = ("-c", TINY)
TINY_FILE = "tiny.toml"  # the same for a method that brings settings of its own
FEW_TREES = (
    *("--methods", "xgb_bagging: xgb_bagging(rounds = 2), xgb_cyclic: xgb_cyclic(rounds = 2)"),
    *("--seeds", "1", "--jobs", "1"),
)
# Studies of many cells, with fewer of them: the word is typed as this one.
FEWER_CELLS = {
    "adapt": 'adapt(patients = "10, all", rounds = 1)',
    "privacy": 'privacy(epsilon = "8", r-max = "4")',
    'federation(sites = "2, 8", alpha = "0.1, 10", participation = "0.5")': (
        'federation(sites = "2", alpha = "10", participation = "0.5")'
    ),
}
MORE = {
    ("remind", "simulate", "--resume"): (),  # it continues with its own settings
    ("remind", "simulate"): SMALL,
    ("remind", "bench", "list"): (),
    # Twenty hospitals' trees: each of a thousand messages has the whole model.
    ("remind", "bench", "joining"): FEW_TREES,
    ("remind", "bench", 'joining(sites = "")'): FEW_TREES,
    ("remind", "bench", "compare", "--methods", "paper"): (
        "--methods",
        f"paper+{TINY_FILE}",
        "--seeds",
        "1",
        "--jobs",
        "1",
        *SMALL,
    ),
    ("remind", "bench"): ("--seeds", "1", "--jobs", "1", "--no-anchors", *SMALL),
    ("remind", "analyze", "--cohort"): (*SMALL, "--patients", "10"),
    ("remind", "analyze"): ("--patients", "10"),
    ("remind", "data", "synth"): ("--patients", "120"),
    ("remind", "dashboard"): ("--port", "0"),
    ("remind-site", "serve"): ("--port", "0"),
    ("python", "benchmarks/cached_tokens.py"): ("--small", "--patients", "2", "--batch", "2", "--steps", "1"),
    ("python", "benchmarks/first_prediction.py"): ("--repeats", "1"),
    ("python", "benchmarks/measuring.py"): (
        *("--patients", "4", "--measured", "2", "--batch", "2", "--steps", "1", "--rounds", "1"),
    ),
    ("python", "benchmarks/aggregation_memory.py"): ("--sites", "3", "--megabytes", "1"),
    ("python", "benchmarks/bytes.py"): ("--seeds", "1", *SMALL),
    ("python", "benchmarks/golden_runs.py"): ("--only", "rule-fedremind"),
    ("python", "benchmarks/group_routing.py"): ("--size", "small", "--repeats", "2", "--steps", "1"),
    ("python", "benchmarks/honest_updates.py"): SMALL,
    ("python", "benchmarks/options.py"): ("--seeds", "1", "--jobs", "1", "--methods", "remind", *SMALL),
    ("python", "benchmarks/peers.py"): (
        *("--sites", "2", "--rounds", "2", "--steps", "1", "--batch", "8", "--patients", "20", "--width", "8"),
        *("--only", "plain", "ours"),
    ),
    ("python", "benchmarks/scale.py"): ("--sites", "3", "--rounds", "2", "--patients", "30"),
    ("python", "benchmarks/preset.py"): ("--seeds", "1", "--jobs", "1", *SMALL),
    ("python", "benchmarks/private_step.py"): ("--size", "small", "--patients", "4", "--repeats", "1", "--steps", "1"),
    ("python", "benchmarks/prediction_memory.py"): ("--few", "100", "--many", "200"),
    ("python", "benchmarks/secure_aggregation.py"): (
        *("--sites", "5", "--parameters", "5000", "--groups", "3", "--repeats", "1"),
    ),
    ("python", "benchmarks/serve_latency.py"): ("--repeats", "2", "--patients", "1", "2"),
}


@dataclass(frozen=True)
class Excuse:
    """Why a command of ours is not typed here, and the test that does what it does."""

    why: str
    test: str


# Commands of ours that cannot be typed here.
NOT_HERE = {
    ("remind", "dashboard", "--import"): Excuse(
        "needs a folder of finished runs",
        "tests/dashboard/test_import.py::test_each_folder_is_named_with_what_became_of_it",
    ),
    ("remind-site", "export"): Excuse(
        "needs a hospital that has trained in a consortium",
        "tests/client/test_site_export.py::test_without_the_policys_word_no_encoder_and_no_name_leaves",
    ),
    ("remind", "data", "import", "mimic-iv"): Excuse(
        "needs files that are not public", "tests/data/importers/test_command.py::test_mimic_iv"
    ),
    ("remind", "data", "import", "embed"): Excuse(
        "needs files that are not public", "tests/data/importers/test_command.py::test_embed_and_fprm"
    ),
    ("remind", "data", "import", "fprm"): Excuse(
        "needs files that are not public", "tests/data/importers/test_command.py::test_embed_and_fprm"
    ),
    ("remind", "data", "import", "eicu"): Excuse(
        "needs files that are not public", "tests/data/importers/test_eicu.py::test_the_command"
    ),
    ("remind", "data", "import", "bids"): Excuse(
        "needs files that are not public", "tests/data/importers/test_bids.py::test_the_command"
    ),
    ("remind", "data", "import", "omop"): Excuse(
        "needs files that are not public", "tests/data/importers/test_omop.py::test_the_command"
    ),
    ("remind", "data", "import", "brats"): Excuse(
        "needs files that are not public", "tests/data/importers/test_brats.py::test_the_command"
    ),
    ("remind", "consortium", "run"): Excuse(
        "needs three hospitals that are online",
        "tests/e2e/test_afternoon.py::test_hospitals_train_together_one_comes_late_and_one_may_not",
    ),
    ("remind", "consortium", "resume"): Excuse(
        "needs a consortium whose run failed", "tests/e2e/test_resume_consortium.py::test_a_killed_coordinator_goes_on"
    ),
    ("remind-site", "approve", "FINGERPRINT"): Excuse(
        "needs a run that waits for it", "tests/client/test_approval.py::test_the_command"
    ),
    ("remind-site", "ledger", "RUN"): Excuse(
        "needs a run with noise at this hospital",
        "tests/client/ledger/test_account.py::test_the_form_says_what_left_how_often_to_whom_and_under_which_guarantee",
    ),
    ("remind-site", "vault", "rotate"): Excuse(
        "its words change site.toml, too",
        "tests/client/test_site_config.py::test_the_vaults_exit_code",
    ),
    ("remind", "predict", "heart-model"): Excuse(
        "needs an export with --site", "tests/e2e/test_serve.py::test_the_command_predict_takes_the_exported_folder"
    ),
    ("remind", "bench", "leakage"): Excuse(
        "needs a cohort with declared scales", "tests/studies/cells/test_leakage.py::test_a_cell_says_what_was_found"
    ),
    ("remind", "bench", "privacy"): Excuse(
        "needs a cohort with declared scales", "tests/studies/test_privacy.py::test_a_study_says_what_it_recommends"
    ),
    ("remind", "bench", "widths(small = 4)"): Excuse(
        "is a study that the reader writes", "tests/newcomer/test_one_file.py::test_a_study_runs_and_is_reported"
    ),
    ("remind", "--install-completion"): Excuse(
        "changes the settings of the reader's shell", "tests/test_cli.py::test_version_and_completion"
    ),
    ("python", "benchmarks/warm_worker.py"): Excuse(
        "runs two consortia of real processes, for more than a minute",
        "tests/e2e/test_hospital.py::test_two_rounds",
    ),
    ("python", "benchmarks/soft_moe.py"): Excuse(
        "needs the packages of the extra 'benchmarks', one of which would hide these tests: it has a package 'tests'",
        "tests/test_benchmarks.py::test_soft_moe_is_compared_with_the_packages_of_its_extra",
    ),
}
RESUMED: dict[tuple[str, ...], bool] = {("remind", "simulate", "--resume"): True}
SERVERS = {
    ("remind", "dashboard"): "remind.cli",
    ("remind", "consortium", "serve"): "remind.cli",
    ("remind-site", "run"): "remind_client",
    ("remind-site", "serve"): "remind_client",
}
# Of a hospital that has a trained model (True), and of one that has patients (False).
HOSPITAL: dict[tuple[str, ...], bool] = {
    ("remind-site", "predict"): True,
    ("remind-site", "serve"): True,
    ("remind-site", "adapt"): False,
    ("remind-site", "ledger"): False,
}
# Exit codes beside 0 that are right here: nobody serves the consortium, and the name of the coordinator leads nowhere.
CODES = {
    ("remind", "consortium", "check"): (0, 10),
    ("remind-site", "check"): (0, 10, 11),
    # Under secure aggregation a combination of one or two hospitals is never trained: exit code 3.
    ("remind", "simulate", "--num-clients", "5", "-c", "federation.secure-aggregation=true"): (0, 3),
    ("remind", "simulate", "--num-clients", "5", "-c", "private-joint"): (0, 3),
}
# Ports of health pages and of Flower may be taken on this machine: where the numbers stand after these commands.
PORTS = {
    ("remind", "consortium", "init"): ("coordinator/consortium/consortium.toml", ("18000", "18080")),
    ("remind-site", "init"): ("site/site.toml", ("8780",)),
}
RUN = re.compile(r"RUN|results/(?:RUN|heart|my-run|\d{8}-\d{6}-\S+)")  # a run that the text takes as given
RUN_IN_SETTINGS = re.compile(r'(?<=start\.model=")results/heart(?=")')
MODELS = ("MODEL", "heart-model")  # what a hospital adapts: as the text says, an exported model or a run
NAMED = {
    "DIR": "coordinator/consortium",
    "KIT": "coordinator/kits/bern",
    "NEW": "new-patients",
    "COHORT": "new-patients",
}
# Those of a consortium are typed together, by turns; each of the other documents, of those with commands, alone.
GUIDES = ("coordinator-guide.md", "hospital-guide.md", "exit-codes-coordinator.md")
ALONE = (
    *("CONTRIBUTING.md", "README.md", "adapt.md", "analysis.md", "benchmarks.md", "cohorts.md", "dashboard.md"),
    *("design.md", "encoders.md", "evidence.md", "export.md", "extend.md", "importing.md", "methods.md"),
    *("next-test.md", "predict.md", "privacy.md", "resume.md", "running.md", "serve.md", "studies.md"),
    *("secure-aggregation.md", "tutorial.md"),
)


def at_start(words: list[str], table: Mapping[tuple[str, ...], Value], otherwise: Value) -> Value:
    """The value of the first key with which these words begin."""
    return next((value for key, value in table.items() if tuple(words[: len(key)]) == key), otherwise)


def excuse(words: list[str]) -> str:
    """Why a command is not typed; empty if it is."""
    excused = at_start(words, NOT_HERE, None)
    return NOT_CHECKED.get(words[0], "") or (f"{excused.why}; {excused.test} does it" if excused else "")


def studied(words: list[str]) -> tuple[str, ...] | None:
    """What a study or a benchmark does when it is short, for it does the same in every document; else None."""
    if words[:2] != ["remind", "bench"] and words[0] != "python":
        return None
    more = at_start(words, MORE, ())
    given, left = iter(words), []
    for word in given:
        if word.startswith("--") and word in more:
            next(given)  # its value gives way to that of `MORE`
        else:
            left.append(word)
    return (*left, *more)
