"""A site's state by round, so that the coordinator can ask for a round again.

Before each round the site keeps the current state as a version of the state file (``state.pt~7``: the state after seven
rounds). The version is a hard link, not a copy. A real hospital also keeps its answer. It stores the answer before
sending it, under the digest of the question, which consists of the task and the tensors. If the same question comes
again, the site sends the same bytes without computing. If another question comes for a round that the site has begun,
the site first restores the state before that round. Therefore a round that the coordinator repeats, a round that
failed, and a round in which the site was killed do not change the result.

When the run has ended, no round is repeated, and the site removes the versions and answers.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter

from remind.federation.messages import Report
from remind.federation.secure_messages import MaskedAnswer
from remind.files import flush
from remind.model_file import digest_of
from remind.site_files import ENDED, INDEX, STATE, VERSION, stored_rounds
from remind_client.question import TooOldError
from remind_client.vault.errors import VaultError
from remind_client.vault.vault import Vault

ANSWER = "answer.pt"
Buffer = NDArray[np.uint8]
Kept = Report | MaskedAnswer
_KEPT: TypeAdapter[Kept] = TypeAdapter(Annotated[Kept, Field(discriminator="kind")])


@dataclass(frozen=True)
class History:
    """Earlier states and answers of a run, in the run's folder at a site."""

    folder: Path
    vault: Vault

    def begin(
        self, round_: int, encoders: Callable[[], set[str]], keep: int, since: Callable[[], int] = lambda: 0
    ) -> bool:
        """Keep the state before this round, and restore it first if needed; return whether it was restored.

        Parameters
        ----------
        encoders
            Returns the encoder files that the current state needs; not called if it is replaced: it may be damaged.
        keep
            Number of rounds to keep, including this one.
        since
            Returns after how many rounds the current state belongs to the global model; called as `encoders` is.

        Raises
        ------
        TooOldError
            The site no longer has the state before this round, because it has done later rounds or the run has ended.
        VaultError
            The list of the stored states is missing or damaged.
        """
        if self._index() == ENDED:
            raise TooOldError(f"round {round_ + 1} was requested, but this run has ended at this site; start a new run")
        kept = self._kept()
        if round_ in kept:
            self._link(self._version(STATE, round_), self.folder / STATE)
            self._keep([r for r in kept if r <= round_], answers=round_ - 1)
            return True
        if any(later > round_ for later in kept):
            raise TooOldError(
                f"round {round_ + 1} was requested again, but this site has begun round {max(kept) + 1} and has only "
                f"its states before rounds {', '.join(str(r + 1) for r in sorted(kept))}"
            )
        if (rounds := since()) > round_:
            raise TooOldError(
                f"round {round_ + 1} was requested again, but the state before it is missing at this site, which has "
                f"only the one after {rounds} rounds"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        newest = sorted(kept, reverse=True)[: keep - 1]
        wanted = {r: kept[r] for r in newest} | {round_: sorted(encoders())}
        self._write_index(kept | wanted)  # before the link exists, so that no needed encoder file is removed
        if (self.folder / STATE).is_file():
            self._link(self.folder / STATE, self._version(STATE, round_))
        else:
            self.vault.write(self._version(STATE, round_), lambda out: torch.save({}, out))
        self._keep(wanted, answers=round_)
        return False

    def end(self) -> None:
        """Remove the kept states and answers when the run has ended; later requests for a round are refused."""
        self._write_index(ENDED)
        self._keep({}, answers=-1)

    def encoders(self) -> set[str]:
        """Encoder files that the kept states need."""
        return {name for names in self._kept().values() for name in names}

    def answer(self, round_: int, question: str) -> tuple[Kept, Buffer] | None:
        """Return the stored answer to this question; None if there is none."""
        path = self._version(ANSWER, round_)
        if not path.is_file():
            return None
        try:
            with self.vault.open(path) as clear:
                found: dict[str, Any] = torch.load(clear, weights_only=True, map_location="cpu")
            if found["question"] != question:
                return None
            buffer = found["buffer"].numpy()
            if _digest(found["report"], found["buffer"]) != found["digest"]:
                raise ValueError
            return _KEPT.validate_json(found["report"]), buffer
        except (OSError, MemoryError, VaultError):
            raise
        except Exception:  # unpickling a changed file may raise anything
            raise VaultError(
                f"{path}: this site did not write this content; remove the file, and the round is repeated"
            ) from None

    def keep_answer(self, round_: int, question: str, report: Kept, buffer: Buffer) -> None:
        """Store an answer; it is on disk when this method returns."""
        text, tensor = report.model_dump_json(), torch.from_numpy(np.array(buffer))
        content = {"question": question, "report": text, "buffer": tensor, "digest": _digest(text, tensor)}
        self.vault.write(self._version(ANSWER, round_), lambda out: torch.save(content, out))

    def _kept(self) -> dict[int, list[str]]:
        """Return round → encoder files of the state before it, for the stored states."""
        index = self._index()
        try:
            found = {} if index == ENDED else {int(r): [str(name) for name in names] for r, names in index.items()}
        except (ValueError, AttributeError, TypeError):
            raise self._damaged() from None
        there = stored_rounds(self.folder)
        if index != ENDED and not there <= found.keys():
            raise self._damaged()
        return {r: names for r, names in found.items() if r in there}

    def _index(self) -> Any:
        path = self.folder / INDEX
        try:
            return json.loads(self.vault.read(path)) if path.is_file() else {}
        except ValueError:
            raise self._damaged() from None

    def _damaged(self) -> VaultError:
        return VaultError(
            f"{self.folder / INDEX}: is missing, or not what this site wrote; restore it, or remove the run's folder"
        )

    def _keep(self, wanted: Collection[int], answers: int) -> None:
        """Remove all other states, and the answers to rounds after `answers` or before the first wanted round.

        The index may still name removed states; states without a file are ignored.
        """
        for name, rounds in ((STATE, set(wanted)), (ANSWER, {r for r in wanted if r <= answers})):
            for path in self.folder.glob(f"{name}{VERSION}*"):
                if path.name not in {self._version(name, r).name for r in rounds}:
                    path.unlink()

    def _write_index(self, content: dict[int, list[str]] | str) -> None:
        text = json.dumps(content, sort_keys=True).encode()
        self.vault.write(self.folder / INDEX, lambda out: out.write(text))

    def _version(self, name: str, round_: int) -> Path:
        return self.folder / f"{name}{VERSION}{round_}"

    def _link(self, source: Path, target: Path) -> None:
        """Make `target` a hard link to `source`, atomically; a copy if the file system has no links."""
        partial = target.with_name(f"{target.name}.partial")
        partial.unlink(missing_ok=True)
        try:
            os.link(source, partial)
        except OSError:
            shutil.copyfile(source, partial)
        os.replace(partial, target)
        with contextlib.suppress(FileNotFoundError):  # it remains if both names were the same file before
            partial.unlink()
        if self.vault.durable:
            flush(target.parent)


def _digest(report: str, buffer: torch.Tensor) -> str:
    return digest_of({"buffer": buffer}, {"report": report})
