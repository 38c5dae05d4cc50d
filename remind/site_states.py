"""What simulated sites store between rounds, and the digests by which a resumed run notices damage to it.

A simulation's sites keep their encoders, optimisers and own tensors in the run's folder. A file that was changed,
truncated, lost, or replaced by that of another round or site still looks like a state, and the resumed run would end
with another model. So a checkpoint contains a digest of each site's state after the same round. Hospitals keep theirs
themselves; a coordinator has no file of them.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from remind.model_file import digest_of
from remind.site_files import ENDED, FOLDER, INDEX, STATE, VERSION, encoder_file, stored_rounds

PARTS, FOR_TRAINING = ("encoders", "kept", "since"), ("stage", "optimizer")


@dataclass(frozen=True)
class SiteStates:
    """The stored states of a simulation's sites.

    Attributes
    ----------
    run
        The run's folder.
    """

    run: Path
    _known: dict[Path, tuple[tuple[int, int, int], bool, str]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def digests(self, over: bool) -> dict[str, str]:
        """Return site folder → digest of its present state, empty if the file is damaged already.

        Sites without a state are left out.

        Parameters
        ----------
        over
            Whether no round follows: the final examination removes optimisers, which are then left out.
        """
        found = {}
        for path in sorted((self.run / FOLDER).glob(f"*/{STATE}")):
            seen = path.stat()
            file = (seen.st_ino, seen.st_mtime_ns, seen.st_size)
            known = self._known.get(path)
            if known is None or known[:2] != (file, over):
                self._known[path] = known = (file, over, _digest_of_file(path, over))
            found[path.parent.name] = known[2]
        return found

    def problems(self, digests: Mapping[str, str], round_: int, over: bool) -> list[str]:
        """Return what differs from the states with these digests, from which sites would continue after `round_`.

        Each text names the file.
        """
        found = [self._problem(self.run / FOLDER / site, digest, round_, over) for site, digest in digests.items()]
        return [problem for problem in found if problem]

    def _problem(self, site: Path, digest: str, round_: int, over: bool) -> str:
        version = site / f"{STATE}{VERSION}{round_}"
        path = version if version.is_file() else site / STATE
        if not path.is_file():
            return f"{path}: is missing"
        try:
            state = _read(path)
        except Exception:  # unpickling a changed file may raise anything
            return f"{path}: was changed or truncated"
        if _digest(state, over) != digest:
            return f"{path}: is not the state of this site after round {round_}"
        for part in (state, *state.get("earlier", ())):
            for name, weights in part["encoders"].items():
                file = site / encoder_file(name, weights)
                if not file.is_file():
                    return f"{file}: is missing"
                try:
                    whole = digest_of(_read(file)) == weights
                except Exception:  # as above
                    whole = False
                if not whole:
                    return f"{file}: was changed or truncated"
        return _index_problem(site, over)


def _index_problem(site: Path, over: bool) -> str:
    """Return what is wrong with the list of a site's states; empty if nothing is."""
    path = site / INDEX
    rounds = {str(round_) for round_ in stored_rounds(site)}
    try:
        index: Any = json.loads(path.read_bytes())
        listed = index.keys() if isinstance(index, dict) else {index}
    except FileNotFoundError:
        return f"{path}: is missing"
    except ValueError:
        return f"{path}: was changed or truncated"
    if over and index == ENDED:
        return ""
    return "" if rounds <= listed else f"{path}: does not list the states that are there"


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
    return content


def _digest_of_file(path: Path, over: bool) -> str:
    try:
        return _digest(_read(path), over)
    except Exception:  # unpickling a changed file may raise anything; the site says so when it needs the file
        return ""


def _digest(state: Mapping[str, Any], over: bool) -> str:
    """Return the digest (hex) of a state; which of its models is active does not count."""
    own = {name: state.get(name) for name in PARTS}
    parts = sorted([own, *({n: p.get(n) for n in PARTS} for p in state.get("earlier", ()))], key=_since)
    return fingerprint({"parts": parts} if over else {"parts": parts, **{n: state.get(n) for n in FOR_TRAINING}})


def _since(part: Mapping[str, Any]) -> int:
    return int(part["since"] or 0)


def fingerprint(value: Any) -> str:
    """Return a digest (hex) of tensors, numbers and texts in dicts and lists; the order of a dict does not count."""
    sha = hashlib.sha256()
    _hash_into(sha, value)
    return sha.hexdigest()


def _hash_into(sha: Any, value: Any) -> None:
    if isinstance(value, Mapping):
        for key in sorted(value, key=repr):
            sha.update(f"{key!r}:".encode())
            _hash_into(sha, value[key])
    elif isinstance(value, list | tuple):
        for one in value:
            _hash_into(sha, one)
    elif isinstance(value, Tensor):
        sha.update(digest_of({"": value}).encode())
    else:
        sha.update(f"{value!r};".encode())
