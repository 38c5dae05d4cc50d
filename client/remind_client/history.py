"""A site's state by round: a round that is asked for again is done again from where it began, or answered again.

Before a round the site keeps the state as it is, as a version of the state file (``state.pt~7``: after seven rounds).
That is a link, not a copy. A real hospital also keeps its answer, written before it is sent, under the digest of the
question: task and tensors. The same question gets the same bytes, without work. Another question for a round that was
begun goes back to the state before it: a coordinator that lost a round and does it again, a site that was killed in
the middle of one, and a round that failed leave no trace.
"""

import contextlib
import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from remind.federation.messages import Report
from remind.processes.private_files import sync_folder
from remind_client.question import TooOldError
from remind_client.vault.errors import VaultError
from remind_client.vault.vault import VERSION, Vault

STATE, ANSWER, INDEX = "state.pt", "answer.pt", "history.json"
Buffer = NDArray[np.uint8]


@dataclass(frozen=True)
class History:
    """Earlier states, and answers, in a run's folder at a site."""

    folder: Path
    vault: Vault

    def begin(self, round_: int, encoders: set[str], keep: int) -> bool:
        """Stand where this round begins, and keep that state; return whether an earlier state had to be restored.

        Parameters
        ----------
        encoders
            Files that the present state needs.
        keep
            Rounds to keep, this one included.

        Raises
        ------
        TooOldError
            The site has done later rounds and no longer keeps the state before this one.
        """
        kept = self._kept()
        if round_ in kept:
            self._link(self._version(STATE, round_), self.folder / STATE)
            self._keep({r: names for r, names in kept.items() if r <= round_}, answers=round_ - 1)
            return True
        if any(later > round_ for later in kept):
            raise TooOldError(
                f"round {round_ + 1} was asked for again, but this site has gone on to round {max(kept) + 1} and keeps "
                f"only its states before rounds {', '.join(str(r + 1) for r in sorted(kept))}"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        newest = sorted(kept, reverse=True)[: keep - 1]
        wanted = {r: kept[r] for r in newest} | {round_: sorted(encoders)}
        self._write_index(kept | wanted)  # first: what a version needs must not be removed
        if (self.folder / STATE).is_file():
            self._link(self.folder / STATE, self._version(STATE, round_))
        else:
            self.vault.write(self._version(STATE, round_), lambda out: torch.save({}, out))
        self._keep(wanted, answers=round_)
        return False

    def encoders(self) -> set[str]:
        """Encoder files that the kept states need."""
        return {name for names in self._kept().values() for name in names}

    def answer(self, round_: int, question: str) -> tuple[Report, Buffer] | None:
        """The answer that was given to this very question; None if there is none."""
        path = self._version(ANSWER, round_)
        if not path.is_file():
            return None
        try:
            with self.vault.open(path) as clear:
                found: dict[str, Any] = torch.load(clear, weights_only=True, map_location="cpu")
            if found["question"] != question:
                return None
            buffer = found["buffer"].numpy()
            if hashlib.sha256(found["report"].encode() + buffer.tobytes()).hexdigest() != found["digest"]:
                raise ValueError
            return Report.model_validate_json(found["report"]), buffer
        except (OSError, MemoryError, VaultError):
            raise
        except Exception:  # unpickling a changed file may raise anything
            raise VaultError(f"{path}: not what this site wrote; remove it, and the round is done again") from None

    def keep_answer(self, round_: int, question: str, report: Report, buffer: Buffer) -> None:
        """Store an answer; it is on the disk when this returns."""
        text = report.model_dump_json()
        content = {
            "question": question,
            "report": text,
            "buffer": torch.from_numpy(np.array(buffer)),
            "digest": hashlib.sha256(text.encode() + buffer.tobytes()).hexdigest(),
        }
        self.vault.write(self._version(ANSWER, round_), lambda out: torch.save(content, out))

    def _kept(self) -> dict[int, list[str]]:
        """Round → encoder files of the state before it, for the states that are there."""
        path = self.folder / INDEX
        if not path.is_file():
            return {}
        try:
            found = {int(r): [str(name) for name in names] for r, names in json.loads(self.vault.read(path)).items()}
        except (ValueError, AttributeError, TypeError):
            raise VaultError(f"{path}: not what this site wrote; remove the run's folder") from None
        return {r: names for r, names in found.items() if self._version(STATE, r).is_file()}

    def _keep(self, wanted: dict[int, list[str]], answers: int) -> None:
        """Remove the other states, and answers to rounds after `answers` or before the first wanted."""
        for name, rounds in ((STATE, set(wanted)), (ANSWER, {r for r in wanted if r <= answers})):
            for path in self.folder.glob(f"{name}{VERSION}*"):
                if path.name not in {self._version(name, r).name for r in rounds}:
                    path.unlink()
        self._write_index(wanted)

    def _write_index(self, wanted: dict[int, list[str]]) -> None:
        text = json.dumps({str(r): names for r, names in sorted(wanted.items())}).encode()
        self.vault.write(self.folder / INDEX, lambda out: out.write(text))

    def _version(self, name: str, round_: int) -> Path:
        return self.folder / f"{name}{VERSION}{round_}"

    def _link(self, source: Path, target: Path) -> None:
        """Make `target` the file that `source` is, at once; where the disk has no links, a copy."""
        partial = target.with_name(f"{target.name}.partial")
        partial.unlink(missing_ok=True)
        try:
            os.link(source, partial)
        except OSError:
            shutil.copyfile(source, partial)
        os.replace(partial, target)
        with contextlib.suppress(FileNotFoundError):  # there, if both were the same file already
            partial.unlink()
        sync_folder(target.parent)
