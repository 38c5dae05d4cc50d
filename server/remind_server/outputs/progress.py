"""Progress output for people.

Round k of n, a table per group from time to time, the time left, and the final scores.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from remind import groups
from remind.durations import duration
from remind.metrics.aggregates import LEAST, LEAST_OF_A_CLASS
from remind.metrics.scores import BOUNDED, SCORES, TIGHT
from remind_server.outputs.records import Observer, RoundRecord, RunResult, RunStart
from remind_server.outputs.tables import ALL, WITHHELD, Row, final_rows, round_rows, summary

TABLES = 10  # about so many per-group tables in a run
_COLUMNS = tuple(score.column for score in SCORES.values())
_GROUP_COLUMNS = ("group", "train n", "λ", "risk", "gate", "val n", *_COLUMNS)
LEGEND = (
    "in the tables: λ: weight of the group in the objective, all sum to 1; risk: R, mean loss of the group's training "
    "patients;\n  Σλ·R: the objective; gate: share of its validation patients for whom the group's own routing Φ_k was "
    "used; bal: balanced accuracy; F1: macro-F1; AUPRC: average precision;\n  sens@90: sensitivity at "
    "specificity .90; benefit: net benefit at probability .20; ECE: calibration error; log-loss: mean −ln p of the "
    "true class; own loss: the objective's;\n"
    "  *: tail, a group of less than "
    f"{groups.TAIL_SHARE:.0%} of the training patients; –: undefined"
)
_FINAL_COLUMNS = ("", "n", *_COLUMNS)


class Progress(Observer):
    """Observer that prints lines by `say`."""

    def __init__(self, say: Callable[[str], None], results: Path | None = None) -> None:
        self.say, self.results = say, results
        self._start: RunStart | None = None
        self._spent: list[float] = []
        self._explained = False

    def started(self, start: RunStart) -> None:
        """Print which sites take part and what is trained."""
        self._start = start
        patients = sum(start.counts.values())
        self.say(
            f"{start.schema.name}: {len(start.sites)} sites, {len(start.counts)} groups, {patients} training patients, "
            f"{start.config.train.rounds} rounds, seed {start.config.seed}"
        )
        if self.results:
            self.say(f"results: {self.results}")
        for site, counts in start.sites.items():
            self.say(f"  {site}: {sum(counts.values())} training patients in {len(counts)} groups")
        for site, reason in start.refused.items():
            self.say(f"  {site}: not taking part: {_indented(reason)}")

    def round_done(self, record: RoundRecord, tensors: Mapping[str, Tensor]) -> None:
        """Print the result of the round and the time left."""
        self._spent.append(record.seconds)
        recent = self._spent[-3:]
        left = (record.rounds - record.round) * sum(recent) / len(recent)
        stage = {1: "warm-up", 2: "routing"}[record.stage]
        mean_risk = sum(record.weights_used[k] * r for k, r in record.risks.items())
        self.say(
            f"round {record.round} of {record.rounds} ({stage}): {len(record.answered)} sites, Σλ·R {mean_risk:.4f}, "
            f"{duration(record.seconds)}, {duration(left)} left"
        )
        for site, reason in record.absent.items():
            self.say(f"  {site}: not counted: {_indented(reason)}")
        if record.round % max(1, record.rounds // TABLES) == 0 and self._start is not None:
            rows = round_rows(record, self._start.schema)
            if not self._explained:
                self.say(LEGEND)
                self._explained = True
            self.say(_table(_GROUP_COLUMNS, [_group_cells(row) for row in rows]))

    def finished(self, result: RunResult) -> None:
        """Print the final model's scores, per group and per site."""
        rows = final_rows(result)
        if result.selected is not None:
            score = SCORES[str(result.selected["score"])].title
            how = f"best by {score}, {result.selected['by']}: {_number(float(result.selected['value']))}"
            self.say(f"the model is that after round {result.round} of {result.last} ({how} on validation patients)")
        few = f"fewer than {LEAST} patients, or than {LEAST_OF_A_CLASS} of a second class"
        self.say(f"test patients, per group (* tail; ° not ranked: {few}):")
        self.say(_table(_FINAL_COLUMNS, [_final_cells(r, "group") for r in rows if r["site"] == ALL]))
        self.say("test patients, per site:")
        self.say(_table(_FINAL_COLUMNS, [_final_cells(r, "site") for r in rows if r["group"] == ALL]))
        means = summary(result)
        named = (
            (_counted(means["mean_over_sites"], "sites"), means["mean_over_sites"]),
            (_counted(means["mean_over_tail_groups"], "tail groups"), means["mean_over_tail_groups"]),
            ("all tail patients together", means["tail_patients"]),
        )
        self.say("; ".join(f"{name}: AUROC {_number(of['auroc'])}" for name, of in named))
        for line in _calibration_lines(means["calibration"]):
            self.say(line)
        for site, rounds in sorted(result.left_out.items()):
            self.say(f"{site}: its answers of {rounds} round(s) were left out; the rounds above say why")
        for site, reason in result.absent.items():
            self.say(f"{site}: not examined: {_indented(reason)}")
        where = f"; results: {self.results}" if self.results else ""
        self.say(f"done in {duration(result.seconds)}{where}")


def _calibration_lines(found: Row | None) -> list[str]:
    """What calibration changes on test patients, and what the operating point achieves there; or why there is none."""
    if found is None:
        return []
    if found["reason"]:
        return [f"not calibrated: {found['reason']}"]
    raw, after = found["test"].get("raw"), found["test"].get("calibrated")
    if raw is None or after is None:
        return []
    lines = []
    if found["method"] != "none":
        how = f"temperature {found['temperature']:.2f}" if found["temperature"] else "slope and bias"
        changes = ", ".join(
            f"{SCORES[name].title} {_number(raw[name])} → {_number(after[name])}"
            for name in ("ece", "log_loss", "brier")
        )
        lines.append(f"calibrated ({how}, from {found['patients']} validation patients): {changes}")
    if found["operating_point"]:
        rates = ", ".join(
            f"{name} {_number(after[name])} ({_number(after[name + '_low'], 2)}–{_number(after[name + '_high'], 2)})"
            for name in ("sensitivity", "specificity")
        )
        lines.append(f"operating point {found['operating_point']} (threshold {_number(found['threshold'])}): {rates}")
    return lines


def _indented(reason: str) -> str:
    """Indent a site's reason, so that its further lines cannot be mistaken for our output."""
    return reason.replace("\n", "\n      ")


def _group_cells(row: Row) -> list[str]:
    v = row["validation"]
    return [
        row["group"] + "*" * row["tail"],
        str(row["train_n"]),
        _number(row["lambda"]),
        _number(row["risk"]),
        _number(row["gate_open"], 2),
        WITHHELD if row["withheld"] and not v["n"] else str(v["n"]),
        *_scores(v),
    ]


def _final_cells(row: Row, key: str) -> list[str]:
    marks = ("*" * bool(row["tail"]) + "°" * (row["ranked"] is False)) if key == "group" else ""
    return [row[key] + marks, WITHHELD if row["n"] is None else str(row["n"]), *_scores(row)]


def _scores(row: Row) -> list[str]:
    """A cell per score; one that its bins leave open by more than `TIGHT` with its bound."""
    cells = {name: _number(row[name]) for name in SCORES}
    for name in BOUNDED:
        if (bound := row[f"{name}_bound"]) is not None and bound > TIGHT:
            cells[name] += f"±{_number(bound)}"
    return list(cells.values())


def _counted(mean: Row, what: str) -> str:
    """The number of groups in a mean of AUROCs, out of all groups."""
    return f"mean over {mean['averaged']['auroc']} of {mean['of']} {what}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(columns, *rows, strict=True)]
    lines = []
    for row in [columns, *rows]:
        first, *rest = (
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  " + "  ".join([first, *rest]))
    return "\n".join(lines)


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
