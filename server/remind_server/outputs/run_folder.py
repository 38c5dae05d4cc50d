"""The results folder: config, JSON lines per round, final table, model. Every file is written atomically."""

import csv
import json
import os
import platform
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from remind import groups
from remind.adaptation.start import added
from remind.errors import UserError
from remind.files import OWNER_ONLY, escape_formula, make_private, write_whole
from remind.metrics.calibration import CALIBRATION, write_calibration
from remind.model_file import save_model
from remind.version import VERSION
from remind_server.outputs.attendance import Attendance
from remind_server.outputs.calibration_tables import calibration_rows, decision_rows, reliability_rows
from remind_server.outputs.records import Observer, RoundRecord, RoundStart, RunResult, RunStart
from remind_server.outputs.results_claim import refuse_what_holds_something, require_unfinished
from remind_server.outputs.tables import expert_rows, final_rows, interval_rows, label_rows, round_rows, summary

CONFIG, ROUNDS, GROUPS = "config.json", "rounds.jsonl", "groups.jsonl"
FINAL_CSV, FINAL_JSON, SUMMARY, MODEL = "final.csv", "final.json", "summary.json", "model.safetensors"
LAST = "last.safetensors"  # the last round's model, if the run's model is that of another round
EXPERTS, INTERVALS, LABELS = "experts.csv", "intervals.json", "labels.csv"
CALIBRATION_CSV, RELIABILITY, DECISIONS = "calibration.csv", "reliability.csv", "decision-curve.csv"


class RunFolder(Observer):
    """An observer that writes a run's results (docs/results.md describes the files).

    Parameters
    ----------
    folder
        A new or empty folder, or the folder of the run that is resumed.
    """

    def __init__(self, folder: Path, resumes: bool = False) -> None:
        self.folder = folder
        self._start: RunStart | None = None
        self._attendance = Attendance()
        self._metadata: dict[int, dict[str, str]] = {}  # descriptions of models that may become the run's
        if resumes:
            require_unfinished(folder)
            return
        refuse_what_holds_something(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / ROUNDS).touch(
                OWNER_ONLY, exist_ok=False
            )  # succeeds only once, so that the folder belongs to this run
        except FileExistsError:
            raise UserError(f"results: {folder} already holds a run; give another folder or remove it") from None
        except OSError as error:
            raise UserError(f"results: cannot make {folder}: {error.strerror}") from None

    def started(self, start: RunStart) -> None:
        """Write the description of the run: config, seed, versions, schema, sites and groups."""
        self._start = start
        self._attendance.started(start)
        names = start.schema.names
        content = {
            "config": start.config.model_dump(mode="json"),
            "seed": start.config.seed,
            "versions": {"federated-remind": VERSION, "torch": torch.__version__, "python": platform.python_version()},
            "schema": start.schema.describe(),
            "fingerprint": start.schema.fingerprint,
            "groups": {groups.name(k, names): n for k, n in start.counts.items()},
            "tail_groups": [groups.name(k, names) for k in sorted(groups.tail(start.counts))],
            "sites": {
                site: {groups.name(k, names): n for k, n in sorted(counts.items())}
                for site, counts in start.sites.items()
            },
            "named": dict(sorted(start.named.items())),
            "refused": dict(start.refused),
            "expected": list(start.expected),
        }
        self._write(CONFIG, lambda path: _dump(content, path))

    def remember(self) -> dict[str, Any]:
        """Return the attendance, and the descriptions of models that may become the run's model."""
        return {
            "attendance": self._attendance.remember(),
            "metadata": {str(round_): found for round_, found in self._metadata.items()},
        }

    def resumed(self, start: RunStart, round_: int, memory: Mapping[str, Any]) -> None:
        """Remove the lines of later rounds, and a line that was truncated when the process was killed."""
        self._start = start
        self._attendance.resumed(start, round_, memory["attendance"])
        self._metadata = {int(number): dict(found) for number, found in memory["metadata"].items()}
        for name in (ROUNDS, GROUPS):
            self._write(name, partial(_first_rounds, self.folder / name, round_))
        if (self.folder / LAST).exists():  # the process was killed while it wrote the end
            os.replace(self.folder / LAST, self.folder / MODEL)

    def round_started(self, start: RoundStart) -> None:
        """Store which sites take part."""
        self._attendance.round_started(start)

    def round_done(self, record: RoundRecord, tensors: Mapping[str, Tensor]) -> None:
        """Append the round's lines and replace the model by the one after it."""
        assert self._start is not None
        self._attendance.round_done(record, tensors)
        _append(self.folder / GROUPS, round_rows(record, self._start.schema))
        line = {
            "round": record.round,
            "rounds": record.rounds,
            "stage": record.stage,
            "seconds": round(record.seconds, 3),
            "answered": list(record.answered),
            "absent": dict(record.absent),
            "late": list(record.late),
            "how": dict(record.how),
            "frozen": [groups.name(k, self._start.schema.names) for k in record.frozen],
            "refused": dict(record.refused),
            "expected": list(record.expected),
            "bytes_down": record.bytes_down,
            "bytes_up": record.bytes_up,
            "effective_sites": round(record.effective_sites, 4),
            "sampling_error": record.sampling_error,
            "chances": {site: round(chance, 6) for site, chance in sorted(record.chances.items())},
        }
        _append(self.folder / ROUNDS, [line])
        metadata = self._metadata[record.round] = {
            "round": str(record.round),
            "seed": str(self._start.config.seed),
            "weights": json.dumps({str(k): w for k, w in record.weights_after.items()}),
            "counts": json.dumps({str(k): n for k, n in added(record.counts, record.initial_counts).items()}),
            "config": self._start.config.model_dump_json(),
            "schema": json.dumps(self._start.schema.describe()),
        }
        self._write(MODEL, lambda path: save_model(path, tensors, metadata))
        for round_ in self._metadata.keys() - {record.round, record.best_round}:
            del self._metadata[round_]

    def finished(self, result: RunResult) -> None:
        """Write the final table per site and group, the expert map, the calibration, and the summary."""
        self._attendance.finished(result)
        self._write_model(result)
        rows = final_rows(result)
        self._write(FINAL_JSON, lambda path: _dump(rows, path))
        self._write(FINAL_CSV, lambda path: _csv(rows, path))
        self._write(INTERVALS, lambda path: _dump(interval_rows(result), path))
        if experts := expert_rows(result):
            self._write(EXPERTS, lambda path: _csv(experts, path))
        if labels := label_rows(result):
            self._write(LABELS, lambda path: _csv(labels, path))
        if result.calibration is not None:
            write_calibration(self.folder / CALIBRATION, result.calibration)
        for name, rows_of in (
            (CALIBRATION_CSV, calibration_rows),
            (RELIABILITY, reliability_rows),
            (DECISIONS, decision_rows),
        ):
            if found := rows_of(result):
                self._write(name, partial(_csv, found))
        content = summary(result) | self._attendance.content()
        content["absent"] = self._attendance.never | content["absent"]  # who never took part was not examined either
        self._write(SUMMARY, lambda path: _dump(content, path))

    def _write_model(self, result: RunResult) -> None:
        """Write the run's model, and the last one beside it if that is another."""
        if result.round not in self._metadata:
            return
        if result.round != result.last and result.last in self._metadata:
            self._write(LAST, lambda path: save_model(path, result.last_tensors, self._metadata[result.last]))
        more = {"last": str(result.last), "routing": json.dumps(result.routing)}
        if result.selected is not None:
            more["selected"] = json.dumps(dict(result.selected))
        self._write(MODEL, lambda path: save_model(path, result.tensors, self._metadata[result.round] | more))

    def _write(self, name: str, write: Callable[[Path], object]) -> None:
        write_whole(self.folder / name, write, private=True)


def _dump(content: Any, path: Path) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def _first_rounds(path: Path, rounds: int, target: Path) -> None:
    """Copy the lines of this many rounds."""
    with target.open("w", encoding="utf-8") as out:
        if not path.exists():
            return
        for line in path.read_text("utf-8").splitlines(keepends=True):
            try:
                if line.endswith("\n") and json.loads(line)["round"] <= rounds:
                    out.write(line)
            except ValueError:
                continue


def _append(path: Path, rows: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    make_private(path)
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def _csv(rows: list[dict[str, Any]], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows({name: escape_formula(value) for name, value in row.items()} for row in rows)
