"""Masked answers: stores a site's keys for the run, masks its answers, and opens shares."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec
from numpy.typing import NDArray
from pydantic import ValidationError

from remind.config.privacy import PrivacyConfig
from remind.consortium.enrolment import public_key_text
from remind.consortium.roster import read_roster
from remind.errors import UserError
from remind.federation.blocks import unpack
from remind.federation.messages import Examination, Examine, Report, Task
from remind.federation.secure import (
    block_digests,
    examination_payload,
    examination_plan,
    group_of_block,
    require_fair,
    task_plan,
    training_payloads,
)
from remind.federation.secure_messages import Dealt, Keys, MaskedAnswer, Unmasked
from remind.federation.summed import noise_makers
from remind.privacy.threshold import large_parts
from remind.secagg.book import Book
from remind.secagg.codec import Payload
from remind.secagg.limits import RefusedError
from remind.secagg.plan import Plan
from remind.secagg.site import SecureSite, SiteState
from remind.secagg.slot_messages import ShareRequest
from remind_client.identity import read_private_key
from remind_client.question import question_of
from remind_client.site_config import SiteConfig
from remind_client.store.site_store import SiteStore
from remind_client.vault.errors import VaultError

FILE = "secure-aggregation.json"
Buffer = NDArray[np.uint8]


class SecureAnswers:
    """Masks the answers of one site in one run.

    Parameters
    ----------
    terms
        Digest of the run's settings. Sites with different settings do not accept each other's keys.
    ours
        The hospital's site.toml, which names its key and its roster.
    virtual
        Whether the hospital is virtual: it has no site.toml and no roster, and generates a key for the run.
    """

    def __init__(
        self, run: str, site: str, terms: str, store: SiteStore, ours: SiteConfig | None, virtual: bool = False
    ) -> None:
        self._run, self._name, self._terms, self._store = run, site, terms, store
        self._ours, self._virtual = ours, virtual

    @property
    def _path(self) -> Path:
        return self._store.folder / FILE

    def _keep(self, state: SiteState) -> None:
        self._store.folder.mkdir(parents=True, exist_ok=True)
        text = state.model_dump_json().encode()
        self._store.vault.write(self._path, lambda out: out.write(text))

    def _site(self) -> SecureSite:
        """Load the stored state, because another process may have answered the last message.

        Raises
        ------
        RefusedError
            There are no keys, or the message comes with other settings than those to which the sites have agreed.
        """
        if not self._path.is_file():
            raise RefusedError("this site has published no keys for this run")
        try:
            state = SiteState.model_validate_json(self._store.vault.read(self._path))
        except ValidationError:
            raise VaultError(f"{self._path}: the content is not valid; this site cannot continue the run") from None
        if (state.keys.run, state.keys.terms) != (self._run, self._terms):  # the others' noise, clip and weights too
            raise RefusedError("this site has published keys for this run under other settings")
        return SecureSite(state, self._keep)

    def prepare(self, slots: int) -> Keys:
        """Publish the keys of the run. A repeated request gets the same keys.

        Raises
        ------
        UserError
            The hospital has no roster, or its own entry in the roster has another key.
        """
        roster = self._roster()
        if not self._path.is_file():
            ours = self._ours
            key = ec.generate_private_key(ec.SECP384R1()) if ours is None else read_private_key(ours.key_path)
            if roster is not None and roster.get(self._name) != public_key_text(key.public_key()):
                raise UserError(f"the roster's entry for {self._name} is not this site's key; compare the roster again")
            SecureSite.create(self._run, self._name, self._terms, slots, key, self._keep)
        keys = self._site().state.keys
        if keys.slots != slots:
            raise RefusedError("this site has published keys for this run under other settings")
        return Keys(keys=keys)

    def _roster(self) -> Mapping[str, str] | None:
        if self._virtual:
            return None
        if self._ours is None or not self._ours.roster:
            raise UserError(
                "site.toml: roster is missing: secure aggregation needs the other hospitals' keys, as they gave them "
                "to each other (docs/secure-aggregation.md)"
            )
        return read_roster(self._ours.path(self._ours.roster))

    def deal(self, book: Book) -> Dealt:
        """Check the keys of all sites against the roster, and deal shares; see `SecureSite.deal`."""
        return Dealt(boxes=self._site().deal(book, self._roster()))

    def unmask(self, ask: ShareRequest) -> Unmasked:
        """Open this site's shares; see `SecureSite.open`."""
        return Unmasked(opened=self._site().open(ask))

    def require_fair(self, task: Task, counts: Mapping[int, int], modalities: Sequence[str]) -> None:
        """Refuse a task before any work if its weights contradict those of the other sites."""
        require_fair(task, counts, modalities)

    def require_new(self, task: Examine) -> None:
        """Refuse an examination whose keys were used before."""
        if task.secure is not None and task.secure.slot in self._site().state.asked:
            raise RefusedError(f"the keys of slot {task.secure.slot} were used")

    def report(self, task: Task, buffer: Buffer, report: Report, answer: Buffer) -> tuple[MaskedAnswer, Buffer]:
        """Mask a report.

        Raises
        ------
        RangeError
            A number is too large for the encoding.
        """
        losses = {k: loss.value() for k, loss in report.train.items()}
        sent, own = unpack(task.index, buffer), unpack(report.index, answer)
        plan = task_plan(task, block_digests(task.index, buffer), question_of(task, buffer))
        return self._masked(plan, training_payloads(task, sent, own, losses), report.round, report.seconds)

    def noise_makers(self, task: Task, privacy: PrivacyConfig) -> dict[str, int]:
        """Block → the number of hospitals whose noise is in its sum for sure: see `summed.noise_makers`."""
        return noise_makers(task, self._site().sites, privacy.colluding)

    def sums(
        self, task: Task, buffer: Buffer, payloads: Mapping[str, Payload], seconds: float
    ) -> tuple[MaskedAnswer, Buffer]:
        """Put sums with their share of noise under masks."""
        plan = task_plan(task, block_digests(task.index, buffer), question_of(task, buffer))
        return self._masked(plan, payloads, task.round, seconds)

    def examination(
        self, task: Examine, buffer: Buffer, examination: Examination, minimum: int, classes: int
    ) -> tuple[MaskedAnswer, Buffer]:
        """Mask an examination. Statistics of fewer patients than the site's minimum count are replaced by zeros."""
        plan = examination_plan(task, block_digests(task.index, buffer), question_of(task, buffer))
        groups = {k for block in plan.parts if (k := group_of_block(block)) is not None}
        parts = {"test": examination.test, "validation": examination.validation, "calibrated": examination.calibrated}
        large = {name: large_parts(part, groups, minimum) for name, part in parts.items()}
        tempered = large_parts(examination.tempered, groups, minimum)
        payloads = {}
        for block in plan.parts:
            k = group_of_block(block) or 0
            statistics = {name: part[k].value() if k in part else None for name, part in large.items()}
            sums = tempered[k].value() if k in tempered else None
            payloads[block] = examination_payload(task, block, statistics, sums, classes)
        return self._masked(plan, payloads, examination.round, examination.seconds)

    def _masked(
        self, plan: Plan, payloads: Mapping[str, Payload], round_: int, seconds: float
    ) -> tuple[MaskedAnswer, Buffer]:
        beside, masked = self._site().mask(plan, payloads)
        parts = [masked[block].to_bytes() for block in sorted(masked)]
        answer = MaskedAnswer(round=round_, seconds=seconds, beside=beside)
        return answer, np.concatenate(parts) if parts else np.empty(0, np.uint8)
