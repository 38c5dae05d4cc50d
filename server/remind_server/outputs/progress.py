"""Prints a run's progress for people.

Round k of n, a table per group from time to time, the time left, and the final scores. A table holds the groups
with the most training patients, as many as a screen has room for, and the others pooled in one row.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from remind.durations import duration
from remind.metrics.aggregates import LEAST, LEAST_OF_A_CLASS
from remind.metrics.labels import SCORED
from remind.metrics.score import Score
from remind.metrics.scores import EVERY, scores_of
from remind.metrics.statistics import merge
from remind.outcomes.base import unsupported
from remind.privacy_plan import delta_problem, patients_together, plan_of
from remind.privacy_reach import warnings as too_much_noise
from remind.secagg.limits import FEWEST
from remind_server.outputs.progress_tables import (
    by_use,
    counted,
    dotted,
    final_cells,
    final_table,
    first_score,
    group_cells,
    group_columns,
    legend,
    named,
    number,
    others,
    score_cells,
    whole_cells,
)
from remind_server.outputs.protections import is_summed, judged_by, nothing_between, remarks, remarks_on_chance
from remind_server.outputs.records import Observer, RoundRecord, RunResult, RunStart
from remind_server.outputs.screen import Screen, Table
from remind_server.outputs.tables import (
    ALL,
    Row,
    combined,
    final_rows,
    interval_rows,
    label_rows,
    own_scores,
    round_rows,
    summary,
)

TABLES = 10  # per-group tables in a run, about


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
        predicts = start.schema.predicts
        self.say(legend(scores_of(predicts.kind, predicts.parts)))
        if why := nothing_between(start.config.flat()):
            self.say(f"  {why}")
        if dotted(start.counts, start.schema.names):
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
        objective = f"Σλ·R {number(mean_risk, 4)}"
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
            predicts = self._start.schema.predicts
            own = scores_of(predicts.kind, predicts.parts)
            use = by_use(own)
            everybody = combined(record.validation, own)
            cells = [whole_cells(ALL, sum(record.counts.values()), everybody)]
            cells += [group_cells(row, named(row["mask"], record.counts, self._start.schema.names)) for row in shown]
            if rest := {row["mask"]: row["train_n"] for row in rows[len(shown) :]}:
                measured = combined({k: s for k, s in record.validation.items() if k in rest}, own)
                cells.append(whole_cells(others(len(rest)), sum(rest.values()), measured))
            order = [5, 2, *(6 + i for i in use[:1]), 3, *(6 + i for i in use[1:2]), 4]
            order += (6 + i for i in use[2:])
            self._show(Table(group_columns(own), cells, 2, order, frozenset({0})), rest)

    def finished(self, result: RunResult) -> None:
        """Print the final model's scores, per group and per site."""
        rows, outcome, own = final_rows(result), result.schema.predicts.kind, own_scores(result)
        if result.selected is not None:
            score = own[str(result.selected["score"])].title
            how = f"best by {score}, {result.selected['by']}: {number(float(result.selected['value']))}"
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
        names = [named(row["mask"], every, result.schema.names) for row in shown]
        cells = [final_cells(margin, ALL), *map(final_cells, shown, names)]
        if rest := {row["mask"] for row in of_groups[len(shown) :]}:
            measured = combined({k: s for k, s in merge(result.test.values()).items() if k in rest}, own)
            cells.append([others(len(rest)), str(measured["n"]), *score_cells(measured)])
        self._show(final_table(own, cells), rest)
        self._labels(label_rows(result))
        means = summary(result)
        lines = [
            (counted(means["mean_over_tail_groups"], "tail groups"), means["mean_over_tail_groups"]),
            ("all tail patients together", means["tail_patients"]),
        ]
        if not is_summed(settings):
            self._sites([row for row in rows if row["group"] == ALL], own)
            lines.insert(0, (counted(means["mean_over_sites"], "sites"), means["mean_over_sites"]))
        first = first_score(means["overall"])
        self.say("; ".join(f"{name}: {EVERY[first].column} {number(of[first])}" for name, of in lines))
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

    def _labels(self, rows: Sequence[Row]) -> None:
        """Print the scores of each label, where there are labels."""
        if not rows:
            return
        self.say("test patients, per label:")
        cells = [
            [str(row["label"]), str(row["n"]), str(row["positives"]), *(number(row[name]) for name in SCORED)]
            for row in rows
        ]
        self._show(
            Table(("label", "n", "holds", *(EVERY[name].column for name in SCORED)), cells, 2, [2, 3, 4], frozenset()),
            [],
        )

    def _sites(self, rows: Sequence[Row], own: Mapping[str, Score]) -> None:
        """Print each site's scores of its test patients; of many the first ones."""
        self.say("test patients, per site:")
        cells = [final_cells(row, row["site"]) for row in rows[: self.screen.most_rows]]
        gone = rows[len(cells) :]
        self._show(final_table(own, cells), gone)

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
    """Return what the run will cost a patient, by its settings and the smallest hospital."""
    smallest = min((sum(counts.values()) for counts in start.sites.values()), default=0)
    hospitals = (len(start.sites),) if len(start.sites) >= FEWEST else ()
    plan = plan_of(start.config, hospitals, smallest)
    if plan is None:
        return []
    patients = [sum(counts.values()) for counts in start.sites.values()]
    privacy = start.config.privacy
    large = delta_problem("privacy.delta", privacy.delta, patients_together(start.config, patients))
    warnings = [*([large] if large else []), *too_much_noise(start.config, start.schema, patients)]
    return [*plan.lines(), *(f"warning: {text}" for text in warnings)]


def _measured(record: RoundRecord) -> bool:
    """Return whether the round's table would say anything: not where all that it measures stays at the hospitals."""
    return bool(record.risks) or any(statistics.count for statistics in record.validation.values())


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
            f"{EVERY[name].title} {number(raw[name])} → {number(after[name])}" for name in ("ece", "log_loss", "brier")
        )
        lines.append(f"calibrated ({how}, from {found['patients']} validation patients): {changes}")
    if found["operating_point"]:
        rates = ", ".join(
            f"{name} {number(after[name])} ({number(after[name + '_low'], 2)}–{number(after[name + '_high'], 2)})"
            for name in ("sensitivity", "specificity")
        )
        lines.append(f"operating point {found['operating_point']} (threshold {number(found['threshold'])}): {rates}")
    return lines


def _privacy_lines(result: RunResult) -> list[str]:
    """Describe what sites report of their privacy budgets, each with its releases."""
    lines = []
    for site, spent in sorted(result.privacy.items()):
        kinds = ", ".join(f"{kind} {epsilon:.2f}" for kind, epsilon in spent.releases.items())
        budget = f"epsilon {spent.epsilon:.2f} at delta {spent.delta:g} spent, {spent.left:.2f} left"
        own = "" if spent.own is None else f"; {spent.own:.2f} if all others left out their noise"
        lines.append(f"privacy of {site}: {budget}{own} (by itself: {kinds})")
    return lines


def _indented(reason: str) -> str:
    """Indent a site's reason, so that its further lines cannot be mistaken for our output."""
    return reason.replace("\n", "\n      ")
