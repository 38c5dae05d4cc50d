"""The site's store on disk between rounds: encoder weights, optimiser state, cached tokens.

Flower loses its own state at every restart and, from about 200 MB, silently (flower §3). So the site returns a reply
only after everything that it depends on is stored here. One file, replaced atomically, says which encoders and which
optimiser belong together: a killed site finds either the complete old state or the complete new state. Encoder files
beside it are named by the hash of their weights, so frozen encoders are written once and not every round.

Where the run chooses among the models of its rounds, the state holds up to three parts: of the newest model, of the one
before, which is judged next, and of the best so far. One of them is active, at the top level of the file: readers get
this one. The final examination activates that of the chosen round.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from remind.model_file import digest_of
from remind.prediction.site_part import FILE as MODEL
from remind.prediction.site_part import SitePart
from remind.site_files import STATE, encoder_file
from remind.site_states import fingerprint
from remind.training.token_cache import TokenCache
from remind_client.store.files import TensorFiles, copied
from remind_client.store.history import History
from remind_client.store.round_parts import newest, part_of_round, parts_of
from remind_client.vault.tokens import SealedTokenCache
from remind_client.vault.vault import PlainVault, SealedVault, Vault

SMALL = 2**20  # bytes of a state that stays in memory when it is written; to read it takes longer than a small round


@dataclass(frozen=True)
class SiteStore:
    """The store of one site and one run, in one folder."""

    folder: Path
    vault: Vault = field(default_factory=PlainVault)
    _last: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)  # see `_state`

    def save(
        self,
        encoders: Mapping[str, nn.Module],
        optimizer: dict[str, Any],
        stage: int,
        kept: Mapping[str, Tensor] | None = None,
        since: int = 0,
        wanted: Iterable[int] = (),
    ) -> dict[str, str]:
        """Store the encoders' weights, the optimiser's state with its stage, and the site's own tensors.

        Parameters
        ----------
        since
            Rounds after which these belong to the global model.
        wanted
            Rounds whose models may still become the run's: what this site had for them stays, and nothing older.

        Returns
        -------
        dict
            Digest of each encoder.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        digests = {name: digest(encoder) for name, encoder in encoders.items()}
        for name, encoder in encoders.items():
            path = self._encoder(name, digests[name])
            if not path.is_file():
                self._files.write(path, encoder.state_dict())
        self._sweep(self.save_optimizer(digests, optimizer, stage, kept, since, wanted))
        return digests

    def end(self) -> None:
        """Remove what only further rounds would need: states of earlier ones, their encoders, and the optimiser.

        What belongs to rounds whose models may be the run's stays: an interrupted examination is done again.
        """
        self.history.end()
        if state := self._state():
            self._sweep(state)
            self._write_state({**state, "optimizer": {}})

    def _sweep(self, state: Mapping[str, Any]) -> None:
        """Remove the encoders that neither this state nor an earlier one needs."""
        needed = self._needed(parts_of(state)) | self.history.encoders()
        for old in self.folder.glob("encoder-*.pt"):
            if old.name not in needed:
                old.unlink()

    @property
    def history(self) -> History:
        """The states before the last rounds, and the answers."""
        return History(self.folder, self.vault)

    def needed(self) -> set[str]:
        """Encoder files of the present state."""
        return self._needed(parts_of(self._state()))

    def _needed(self, parts: Iterable[Mapping[str, Any]]) -> set[str]:
        return {self._encoder(*one).name for part in parts for one in part["encoders"].items()}

    def save_optimizer(
        self,
        digests: Mapping[str, str],
        optimizer: dict[str, Any],
        stage: int,
        kept: Mapping[str, Tensor] | None = None,
        since: int = 0,
        wanted: Iterable[int] = (),
    ) -> dict[str, Any]:
        """Store the optimiser's state and the site's own tensors; the encoders with these hashes are unchanged.

        Return what is stored now.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        wanted = tuple(wanted)
        before = parts_of(self._state()) if wanted else []
        found = [part_of_round(before, round_) for round_ in wanted] if before else []
        earlier = {part["since"]: part for part in found if part["since"] != since}
        own = {"encoders": dict(digests), "kept": dict(kept or {}), "since": since}
        state = {**own, "stage": stage, "optimizer": optimizer, "earlier": list(earlier.values())}
        self._write_state(state)
        return state

    def activate(self, round_: int | None = None) -> None:
        """Make the encoders and tensors that belong to the global model of this round those of this site.

        The others that are stored stay beside them. None: the newest, from which training continues.
        """
        state = self._state()
        parts = parts_of(state)
        if len(parts) < 2:
            return
        chosen = newest(parts) if round_ is None else part_of_round(parts, round_)
        if chosen is not parts[0]:
            rest = [part for part in parts if part is not chosen]
            self._write_state({**state, **chosen, "earlier": rest})

    def save_kept(self, kept: Mapping[str, Tensor]) -> None:
        """Store the site's own tensors; encoders and optimiser are unchanged."""
        state = self._state()
        own = {"encoders": {}, "stage": 0, "optimizer": {}, "earlier": [], "since": 0} | state
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_state({**own, "kept": dict(kept)})

    def forget(self, kept: Mapping[str, Tensor]) -> None:
        """Reset the store to these tensors of the site alone."""
        self.save_optimizer({}, {}, 0, kept)

    def save_model(self, part: SitePart) -> None:
        """Store the finished model, as it was examined: what the site predicts with, whatever trains here later."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._files.write(self.folder / MODEL, part.content())

    def model(self) -> SitePart:
        """Return the finished model.

        Raises
        ------
        VaultError
            It is not there, or not what was written.
        """
        path = self.folder / MODEL
        return SitePart.of(self._files.read(path), str(path))

    def kept(self) -> dict[str, Tensor]:
        """Return the site's own tensors: those that the federated rule does not send, and the state of a method."""
        found: dict[str, Tensor] = self._state().get("kept", {})
        return {name: tensor.clone() for name, tensor in found.items()}  # callers may change them in place

    def digests(self) -> dict[str, str]:
        """Hash of each stored encoder; empty before the first round that trains them."""
        return dict(self._state().get("encoders", {}))

    def encoder(self, name: str, found: str) -> dict[str, Tensor]:
        """Weights of the encoder with this hash.

        Raises
        ------
        VaultError
            The file is missing, or its content has another hash.
        """
        return self._files.read_weights(self._encoder(name, found), found)

    def optimizer(self, stage: int) -> dict[str, Any] | None:
        """State of the optimiser of this stage; None if there is none: stage 2 starts with a new one."""
        state = self._state()
        if state.get("stage") != stage:
            return None
        found: dict[str, Any] = copied(state["optimizer"])  # the caller changes these tensors in place
        return found

    def fingerprint(self, training: bool) -> str:
        """Return a digest (hex) of what an answer depends on here: the site's own tensors, for training all of it."""
        state = self._state()
        names = ("encoders", "kept", "stage", "optimizer") if training else ("encoders", "kept")
        return fingerprint({name: state.get(name) for name in names})

    def since(self) -> int:
        """Rounds after which the present state belongs to the global model; 0 before the first."""
        return max((int(part["since"]) for part in parts_of(self._state())), default=0)

    def stage(self) -> int:
        """Number of the stage of the last steps; 0 before the first."""
        stage: int = self._state().get("stage", 0)
        return stage

    def tokens(self) -> TokenCache:
        """Cached tokens of this site."""
        folder = self.folder / "tokens"
        return SealedTokenCache(folder, self.vault) if isinstance(self.vault, SealedVault) else TokenCache(folder)

    def _encoder(self, name: str, found: str) -> Path:
        return self.folder / encoder_file(name, found)

    def _state(self) -> dict[str, Any]:
        """Return what the state's file holds, for readers that change nothing in it.

        A message asks several times: only a file that is another than at the last call, or than was written, is read.
        """
        path = self.folder / STATE
        try:
            file = _seen(path)
        except FileNotFoundError:
            return {}
        if self._last.get("file") != file:
            self._last.update(state=self._files.read(path, checksums=True), file=file)
        state: dict[str, Any] = self._last["state"]
        return state

    def _write_state(self, state: Mapping[str, Any]) -> None:
        path = self.folder / STATE
        self._last.clear()
        self._files.write(path, state)
        if (file := _seen(path))[2] <= SMALL:
            self._last.update(state=copied(dict(state)), file=file)

    @property
    def _files(self) -> TensorFiles:
        return TensorFiles(self.vault)


def _seen(path: Path) -> tuple[int, int, int]:
    """Return what tells a file from the one that takes its place."""
    seen = path.stat()
    return seen.st_ino, seen.st_mtime_ns, seen.st_size


def digest(module: nn.Module) -> str:
    """SHA-256 (hex) of a module's weights and buffers."""
    return digest_of(module.state_dict())
