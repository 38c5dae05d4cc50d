"""Checkpoints of a run: one file per round with everything that the next round depends on.

A file is complete or absent (it is written under another name, flushed and renamed), and contains a digest of its
content. Several recent checkpoints are kept, so that a damaged one costs one round and not the run. If the run chooses
its best model, every state contains it (`State.best`), so old checkpoints can be removed without an exception.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from remind.config import Config, Scalar
from remind.data.cohort.schema import CohortSchema
from remind.errors import UserError, several
from remind.federation.site_weights import SomeWeighing
from remind.methods import methods_of
from remind.model_file import load_model
from remind.processes.locks import locked
from remind.processes.private_files import private_folder
from remind.site_states import SiteStates
from remind_server.outputs.records import RunStart
from remind_server.outputs.results_claim import require_unfinished
from remind_server.rounds.state import REMEDY, SomeState, State

FOLDER, RUN = "checkpoints", "run"
_NAME = re.compile(r"round-(\d{5,})\.safetensors")
MAY_DIFFER = frozenset(  # settings that a resumed run may change: where it runs, and how long it waits
    {"results", "sinks", "device", "workers", "run.id", "run.resume", "federation.checkpoints", "federation.deadline"}
    | {"federation.min-sites", "federation.min-group-share", "federation.quorum", "federation.retries"}
)


@dataclass(frozen=True)
class Checkpoint:
    """A run between two rounds.

    Attributes
    ----------
    start
        The start record of the run.
    roster
        The members, from `Roster.remembered`.
    nodes
        Number of connected nodes when the run began; a resumed simulation starts the same number.
    left_out
        Site → number of rounds in which its answer did not count.
    memory
        Observer → the state that it needs to continue.
    seconds
        Time that the run has taken so far.
    initial
        `Start.digest` of the run's initial model; empty if it has none.
    site_states
        Simulated site → digest of its state (`SiteStates.digests`).
    over
        Whether no round follows.
    """

    state: SomeState
    start: RunStart
    roster: Mapping[str, Any]
    nodes: int
    left_out: Mapping[str, int] = field(default_factory=dict)
    memory: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    initial: str = ""
    site_states: Mapping[str, str] = field(default_factory=dict)
    over: bool = False

    def require_same(self, config: Config, initial: str = "") -> None:
        """Check that the settings and the initial model are those of the checkpoint.

        Raises
        ------
        UserError
            They differ; the error lists every difference.
        """
        before, now = self.start.config.flat(), config.flat()
        found = [
            f"{key}: {now.get(key)!r}; the run began with {before.get(key)!r}"
            for key in sorted(before.keys() | now.keys())
            if key not in MAY_DIFFER and before.get(key) != now.get(key)
        ]
        if found:
            raise several("a run must be resumed with the settings that it began with", found)
        if initial != self.initial:
            raise UserError(
                f"start.model: {config.start.model} has changed since the run began; restore the former model"
            )


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints in a run's results folder.

    Attributes
    ----------
    keep
        Number of checkpoints to keep, the newest ones.
    """

    results: Path
    keep: int = 2

    @property
    def folder(self) -> Path:
        """The folder of the checkpoint files."""
        return self.results / FOLDER

    @contextmanager
    def held(self) -> Iterator[None]:
        """Context: lock the run, so that no other process can resume it.

        Raises
        ------
        UserError
            Another process holds the lock.
        """
        private_folder(self.folder)
        with locked(
            self.folder / "lock", f"{self.results}: the run is still going on in another process; stop it first"
        ):
            yield

    def write(self, checkpoint: Checkpoint, weighing: SomeWeighing) -> None:
        """Write a checkpoint, which is on disk when this method returns; then remove those that are too old."""
        start = checkpoint.start
        run = {
            "config": start.config.flat(),
            "schema": start.schema.describe(),
            "sites": {name: {str(k): n for k, n in counts.items()} for name, counts in start.sites.items()},
            "counts": {str(k): n for k, n in start.counts.items()},
            "refused": dict(start.refused),
            "expected": list(start.expected),
            "named": dict(start.named),
            "roster": checkpoint.roster,
            "nodes": checkpoint.nodes,
            "left_out": dict(checkpoint.left_out),
            "memory": checkpoint.memory,
            "seconds": checkpoint.seconds,
            "given": checkpoint.initial,
            "site_states": dict(checkpoint.site_states),
            "over": checkpoint.over,
        }
        round_ = checkpoint.state.round
        path = self.folder / f"round-{round_:05d}.safetensors"
        more = {RUN: json.dumps(run, ensure_ascii=False)}
        checkpoint.state.save(path, weighing, more)
        there = self._there()
        kept = sorted(r for r in there if r <= round_)[-self.keep :]
        for other in there.keys() - kept:  # too old, or from a later round that was lost when the run was resumed
            there[other].unlink(missing_ok=True)

    def newest(self, weighing: Callable[[Config], SomeWeighing], say: Callable[[str], None]) -> Checkpoint:
        """Return the newest checkpoint that is whole; one that is damaged is reported to `say`.

        Whole means that the file can be read, and that simulated sites still have their states of the same round.

        Raises
        ------
        UserError
            There is no checkpoint, or none is whole.
        """
        there, problems = self._there(), []
        for round_ in sorted(there, reverse=True):
            try:
                found = _read(there[round_], weighing)
                self._require_site_states(found)
            except UserError as error:
                problems.append(str(error))
                say(f"warning: {error}")
                continue
            if problems:
                say(f"warning: resuming from the checkpoint before it, after round {round_}")
            return found
        if problems:
            raise several(f"{self.folder}: no checkpoint can be resumed from", problems)
        raise UserError(f"{self.results}: there is no checkpoint to resume from; start a new run in another folder")

    def _require_site_states(self, found: Checkpoint) -> None:
        problems = SiteStates(self.results).problems(found.site_states, found.state.round, found.over)
        if problems:
            raise UserError(f"{'; '.join(problems)}; {REMEDY}")

    def _there(self) -> dict[int, Path]:
        found = ((_NAME.fullmatch(path.name), path) for path in self.folder.glob("round-*.safetensors"))
        return {int(match[1]): path for match, path in found if match}


def resumable(folder: Path) -> tuple[Config, int]:
    """Return the config and the number of nodes of the unfinished run in this folder.

    Raises
    ------
    UserError
        The run has ended, or there is no checkpoint.
    """
    require_unfinished(folder)
    found = Checkpoints(folder).newest(lambda config: methods_of(config).weighing, lambda text: None)
    config = found.start.config
    run = config.run.model_copy(update={"resume": True})
    return config.model_copy(update={"run": run, "results": str(folder.absolute())}), found.nodes


def _read(path: Path, weighing: Callable[[Config], SomeWeighing]) -> Checkpoint:
    tensors, metadata = load_model(path, REMEDY)
    try:
        run = json.loads(metadata[RUN])
        flat: dict[str, Scalar] = run["config"]
        config = Config.from_flat(flat, str(path))
        start = RunStart(
            config=config,
            schema=CohortSchema.model_validate(run["schema"]),
            sites={name: _by_group(counts) for name, counts in run["sites"].items()},
            counts=_by_group(run["counts"]),
            refused=run["refused"],
            expected=tuple(run["expected"]),
            named=run["named"],
        )
        state = State.of(tensors, metadata, weighing(config), path)
        initial: str = run["given"]
        rest = {name: run[name] for name in ("roster", "nodes", "left_out", "memory", "seconds")}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(f"{path}: cannot be resumed from: it is not a checkpoint of this version; {REMEDY}") from None
    more = {name: run[name] for name in ("site_states", "over") if name in run}
    return Checkpoint(state, start, **rest, initial=initial, **more)


def _by_group(counts: Mapping[str, int]) -> dict[int, int]:
    return {int(k): n for k, n in counts.items()}
