"""Prints a run's progress for people.

Round k of n, a table per group from time to time, the time left, and the final scores. A table holds the groups
with the most training patients, as many as a screen has room for, and the others pooled in one row.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from remind import groups
from remind.durations import duration
from remind.metrics.aggregates import LEAST, LEAST_OF_A_CLASS
from remind.metrics.scores import EVERY, TIGHT, scores_of
from remind.metrics.statistics import merge
from remind.outcomes.base import unsupported
from remind.privacy_plan import plan_of
from remind.privacy_reach import warnings as too_much_noise
from remind.secagg.limits import FEWEST
from remind_server.outputs.protections import is_summed, judged_by, nothing_between, remarks, remarks_on_chance
from remind_server.outputs.records import Observer, RoundRecord, RunResult, RunStart
from remind_server.outputs.screen import Screen, Table
from remind_server.outputs.tables import ALL, WITHHELD, Row, combined, final_rows, interval_rows, round_rows, summary

TABLES = 10  # per-group tables in a run, about
MOST_LETTERS = 32  # letters of a group's name; if one is longer, all groups are written as dots
_FIRST = ("weighted_kappa", "auroc", "mae", "c_index", "log_loss", "accuracy", "balanced_accuracy", "auprc")


def _columns(outcome: str) -> tuple[str, ...]:
    return tuple(score.column for score in scores_of(outcome).values())


def _group_columns(outcome: str) -> tuple[str, ...]:
    return ("group", "train n", "λ", "risk", "gate", "val n", *_columns(outcome))


def _final_table(outcome: str, cells: list[list[str]]) -> Table:
    return Table(("", "n", *_columns(outcome)), cells, 2, [2 + i for i in _by_use(outcome)], frozenset({0}))


def _first(row: Row) -> str:
    """Return the most wanted score among those of a row."""
    return next(name for name in _FIRST if name in row)


def _by_use(outcome: str) -> list[int]:
    """Return the positions of an outcome's scores, the most wanted first."""
    names = list(scores_of(outcome))
    return [names.index(name) for name in dict.fromkeys([*(n for n in _FIRST if n in names), *names])]


def _legend(outcome: str) -> str:
    """Return what the columns of the tables mean."""
    if outcome == "classes":
        return LEGEND
    means = "; ".join(f"{s.column}: {s.meaning}" for s in scores_of(outcome).values() if s.name != "loss")
    head, _, rest = LEGEND.partition("bal: ")
    return f"{head}{means}; own loss: the objective's;{rest[rest.index(NEXT) :]}"


NEXT = "\n  *: tail"
LEGEND = (
    "in the tables: λ: weight of the group in the objective, all sum to 1; risk: R, mean loss of the group's training "
    "patients;\n  Σλ·R: the objective; gate: share of its validation patients for whom the group's own routing Φ_k was "
    "used; bal: balanced accuracy; F1: macro-F1; AUPRC: average precision;\n  sens@90: sensitivity at "
    "specificity .90; benefit: net benefit at probability .20; ECE: calibration error; log-loss: mean −ln p of the "
    "true class; own loss: the objective's;\n"
    "  *: tail, a group of less than "
    f"{groups.TAIL_SHARE:.0%} of the training patients; –: undefined; a round's table is of the model that the round "
    "received: that after the round before"
)


class Progress(Observer):
    """An observer that prints lines with `say`, per round no more than fit on `screen`."""

    def __init__(self, say: Callable[[str], None], results: Path | None = None, screen: Screen | None = None) -> None:
        self.say, self.results, self.screen = say, results, screen or Screen()
        self._start: RunStart | None = None
        self._spent: list[float] = []

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
        for line in _plan_lines(start):
            self.say(line)
        self.say(_legend(start.schema.predicts.kind))
        if why := nothing_between(start.config.flat()):
            self.say(f"  {why}")
        if _dotted(start.counts, start.schema.names):
            self.say(f"  ●○: groups by their modalities, in this order: {', '.join(start.schema.names)}")

    def resumed(self, start: RunStart, round_: int, memory: Mapping[str, Any]) -> None:
        """Print the round after which the run resumes."""
        self._start = start
        self.say(f"{start.schema.name}: resumed after round {round_} of {start.config.train.rounds}")
        if self.results:
            self.say(f"results: {self.results}")

    def round_done(self, record: RoundRecord, tensors: Mapping[str, Tensor]) -> None:
        """Print the result of the round and the time left."""
        self._spent.append(record.seconds)
        recent = self._spent[-3:]
        left = (record.rounds - record.round) * sum(recent) / len(recent)
        stage = {1: "warm-up", 2: "routing"}[record.stage]
        mean_risk = sum(record.weights_used[k] * r for k, r in record.risks.items()) if record.risks else None
        objective = f"Σλ·R {_number(mean_risk, 4)}"
        self.say(
            f"round {record.round} of {record.rounds} ({stage}): {len(record.answered)} sites, {objective}, "
            f"{duration(record.seconds)}, {duration(left)} left"
        )
        if record.chances:
            self.say(
                f"  {len(record.answered)} of {len(record.chances)} drawn sites answered, worth "
                f"{record.effective_sites:.1f} of equal weight" + _error_text(record.sampling_error)
            )
        self._missing(record.absent, "not counted")
        if record.round % max(1, record.rounds // TABLES) == 0 and self._start is not None and _measured(record):
            rows = sorted(round_rows(record, self._start.schema), key=lambda row: -row["train_n"])
            shown = rows[: self.screen.most_rows]
            outcome = self._start.schema.predicts.kind
            by_use = _by_use(outcome)
            everybody = combined(record.validation, outcome)
            cells = [_whole_cells(ALL, sum(record.counts.values()), everybody)]
            cells += [_group_cells(row, _named(row["mask"], record.counts, self._start.schema.names)) for row in shown]
            if rest := {row["mask"]: row["train_n"] for row in rows[len(shown) :]}:
                measured = combined({k: s for k, s in record.validation.items() if k in rest}, outcome)
                cells.append(_whole_cells(_others(len(rest)), sum(rest.values()), measured))
            order = [5, 2, *(6 + i for i in by_use[:1]), 3, *(6 + i for i in by_use[1:2]), 4]
            order += (6 + i for i in by_use[2:])
            self._show(Table(_group_columns(outcome), cells, 2, order, frozenset({0})), rest)

    def finished(self, result: RunResult) -> None:
        """Print the final model's scores, per group and per site."""
        rows, outcome = final_rows(result), result.schema.predicts.kind
        if result.selected is not None:
            score = EVERY[str(result.selected["score"])].title
            how = f"best by {score}, {result.selected['by']}: {_number(float(result.selected['value']))}"
            self.say(f"the model is that after round {result.round} of {result.last} ({how} on validation patients)")
        if result.blend is not None:
            alone = "; the common model decides only where a hospital has no scores" if result.blend == 1 else ""
            self.say(
                f"a hospital's own scores have a share of {result.blend:g} in predictions "
                f"(least log-loss of validation patients){alone}"
            )
        settings = result.config.flat()
        for text in remarks(settings):
            self.say(text)
        few = unsupported(outcome, LEAST, LEAST_OF_A_CLASS)
        self.say(f"test patients, per group (* tail; ° not ranked: {few}):")
        margin, *of_groups = [row for row in rows if row["site"] == ALL]
        of_groups.sort(key=lambda row: -result.counts.get(row["mask"], 0))
        shown = of_groups[: self.screen.most_rows]
        every = [row["mask"] for row in of_groups]
        names = [_named(row["mask"], every, result.schema.names) for row in shown]
        cells = [_final_cells(margin, ALL), *map(_final_cells, shown, names)]
        if rest := {row["mask"] for row in of_groups[len(shown) :]}:
            measured = combined({k: s for k, s in merge(result.test.values()).items() if k in rest}, outcome)
            cells.append([_others(len(rest)), str(measured["n"]), *_scores(measured)])
        self._show(_final_table(outcome, cells), rest)
        means = summary(result)
        named = [
            (_counted(means["mean_over_tail_groups"], "tail groups"), means["mean_over_tail_groups"]),
            ("all tail patients together", means["tail_patients"]),
        ]
        if not is_summed(settings):
            self._sites([row for row in rows if row["group"] == ALL], outcome)
            named.insert(0, (_counted(means["mean_over_sites"], "sites"), means["mean_over_sites"]))
        first = _first(means["overall"])
        self.say("; ".join(f"{name}: {EVERY[first].column} {_number(of[first])}" for name, of in named))
        if (name := judged_by(outcome)) is not None:
            margins: Row = next((row["intervals"] for row in interval_rows(result) if row["group"] == ALL), {})
            for text in remarks_on_chance(settings, name, margin.get(name), *(margins.get(name) or (None, None))):
                self.say(text)
        if (one := means["one_class"]) is not None:
            found = ", ".join(f"{100 * (share or 0):.0f} % of {name}" for name, share in one["recognised"].items())
            self.say(f"the model calls nearly everyone {one['class']}: it recognises {found}; accuracy says little")
        for line in _calibration_lines(means["calibration"]):
            self.say(line)
        for line in _privacy_lines(result):
            self.say(line)
        for site, rounds in sorted(result.left_out.items()):
            self.say(f"{site}: its answers of {rounds} round(s) were left out; the rounds above say why")
        self._missing(result.absent, "not examined")
        where = f"; results: {self.results}" if self.results else ""
        self.say(f"done in {duration(result.seconds)}{where}")

    def _sites(self, rows: Sequence[Row], outcome: str) -> None:
        """Print each site's scores of its test patients; of many the first ones."""
        self.say("test patients, per site:")
        cells = [_final_cells(row, row["site"]) for row in rows[: self.screen.most_rows]]
        gone = rows[len(cells) :]
        self._show(_final_table(outcome, cells), gone)

    def _missing(self, absent: Mapping[str, str], what: str) -> None:
        """Print the sites that do not count, with reasons; of many the first ones, and the number of others."""
        for site, reason in list(absent.items())[: self.screen.most_missing]:
            first, *more = _indented(reason).split("\n")
            self.say(f"  {site}: {what}: " + (first if more and self.screen.most_missing else _indented(reason)))
        if self.screen.most_missing and len(absent) > self.screen.most_missing:
            self.say(f"  and {len(absent) - self.screen.most_missing} more sites: {what}")

    def _show(self, table: Table, hidden: Collection[Any]) -> None:
        """Print a table, and what it leaves out."""
        fitting, gone = self.screen.fitted(table)
        if self.screen.console is not None and not self.screen.verbose:
            self.screen.draw(fitting)
        else:
            self.say(fitting.plain())
        left = ([f"{len(hidden)} rows"] if hidden else []) + ([f"columns {', '.join(gone)}"] if gone else [])
        if left:
            self.say(f"  (not shown: {' and '.join(left)}; the results folder has all, remind simulate --verbose too)")


def _error_text(error: float | None) -> str:
    """Return the standard error of a step owing to the draw, as text."""
    return "" if error is None else f"; standard error of the step from the draw {error:.0%}"


def _plan_lines(start: RunStart) -> list[str]:
    """What the run will cost a patient, by its settings and the smallest hospital."""
    smallest = min((sum(counts.values()) for counts in start.sites.values()), default=0)
    hospitals = (len(start.sites),) if len(start.sites) >= FEWEST else ()
    plan = plan_of(start.config, hospitals, smallest)
    if plan is None:
        return []
    patients = [sum(counts.values()) for counts in start.sites.values()]
    return [*plan.lines(), *(f"warning: {text}" for text in too_much_noise(start.config, start.schema, patients))]


def _measured(record: RoundRecord) -> bool:
    """Whether the round's table would say anything: not where all that it measures stays at the hospitals."""
    return bool(record.risks) or any(statistics.count for statistics in record.validation.values())


def _named(mask: int, among: Iterable[int], names: Sequence[str]) -> str:
    """Return a group's name, or its dots if a name in the table is too long for a line."""
    return groups.dots(mask, len(names)) if _dotted(among, names) else groups.label(mask, names)


def _dotted(among: Iterable[int], names: Sequence[str]) -> bool:
    return any(len(groups.label(mask, names)) > MOST_LETTERS for mask in among)


def _others(number: int) -> str:
    return f"{number} other groups" if number > 1 else "1 other group"


def _calibration_lines(found: Row | None) -> list[str]:
    """Describe how calibration and the operating point work on test patients, or why there is none."""
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
            f"{EVERY[name].title} {_number(raw[name])} → {_number(after[name])}"
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


def _privacy_lines(result: RunResult) -> list[str]:
    """Describe what sites told of their privacy budgets, each with its releases."""
    lines = []
    for site, told in sorted(result.privacy.items()):
        kinds = ", ".join(f"{kind} {epsilon:.2f}" for kind, epsilon in told.releases.items())
        spent = f"epsilon {told.epsilon:.2f} at delta {told.delta:g} spent, {told.left:.2f} left"
        own = "" if told.own is None else f"; {told.own:.2f} if all others left out their noise"
        lines.append(f"privacy of {site}: {spent}{own} (by itself: {kinds})")
    return lines


def _indented(reason: str) -> str:
    """Indent a site's reason, so that its further lines cannot be mistaken for our output."""
    return reason.replace("\n", "\n      ")


def _group_cells(row: Row, name: str) -> list[str]:
    v = row["validation"]
    return [
        name + "*" * row["tail"],
        str(row["train_n"]),
        _number(row["lambda"]),
        _number(row["risk"]),
        _number(row["gate_open"], 2),
        WITHHELD if row["withheld"] and not v["n"] else str(v["n"]),
        *_scores(v),
    ]


def _whole_cells(name: str, train_n: int, measured: Row) -> list[str]:
    """Return the cells of several groups together, which have no λ, no risk and no gate."""
    return [name, str(train_n), "", "", "", str(measured["n"]), *_scores(measured)]


def _final_cells(row: Row, name: str) -> list[str]:
    marks = "*" * bool(row["tail"]) + "°" * (row["ranked"] is False) if row["site"] == ALL else ""
    return [name + marks, WITHHELD if row["n"] is None else str(row["n"]), *_scores(row)]


def _scores(row: Row) -> list[str]:
    """Return a cell per score, with its bound if that exceeds `TIGHT`."""
    cells = {name: _number(row[name]) for name in EVERY if name in row}
    for name in cells:
        if (bound := row.get(f"{name}_bound")) is not None and bound > TIGHT:
            cells[name] += f"±{_number(bound)}"
    return list(cells.values())


def _counted(mean: Row, what: str) -> str:
    """Return how many of all groups a mean covers: of AUROCs, or of the first score of another outcome."""
    return f"mean over {mean['averaged'][_first(mean)]} of {mean['of']} {what}"


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
