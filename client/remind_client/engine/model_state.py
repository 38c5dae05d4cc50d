"""The model of a site in memory, and its exchange with the message and with the store."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from remind.config import Config
from remind.data.batches.batch import SiteData
from remind.federation.blocks import ENCODERS, Entry, beside, group_block, split_beside, unpack
from remind.federation.held import digests, encoders_of
from remind.federation.install import install
from remind.federation.rules.base import Rule
from remind.objectives.base import OWN
from remind.seeds import derive
from remind.training.device import Precision, compile_backbones, prepare
from remind.training.pretraining import pretrain
from remind.training.private.admission import admit
from remind.training.site_data import CachedTokens, FreshTokens, TokenSource
from remind_client.engine.new_model import new_model
from remind_client.engine.patients import SitePatients
from remind_client.store.site_store import SiteStore, digest

Buffer = NDArray[np.uint8]


class ModelState:
    """The model of a site. It stays in memory; the store holds what must survive a restart.

    Attributes
    ----------
    data
        The site's patients as batches.
    model
        Encoders and fusion model.
    initial
        Initial values of the encoders, the same at every site: `train.anchor` pulls towards them.
    kept
        Tensors that stay at this site: parameters that do not travel under the federated rule, and state of rule and
        objective.
    beside
        What the rule sent besides the parameters.
    """

    def __init__(
        self, patients: SitePatients, config: Config, rule: Rule, store: SiteStore, device: torch.device
    ) -> None:
        self._patients, self._config, self._rule, self._store = patients, config, rule, store
        precision = Precision.of(config, device)
        self.data = SiteData(patients.cohort, precision.dtype, device, config.workers)
        self.model = new_model(patients, config, store)
        if patients.private is not None:
            admit(self.model, patients.cohort.schema, config)
        prepare(self.model, precision, device)
        compile_backbones(self.model, config, device)
        self.initial: dict[str, Tensor] = {}
        if config.train.anchor:
            named = self.model.named_parameters()
            self.initial = {n: p.detach().clone() for n, p in named if n.startswith(ENCODERS)}
        self._trainable = {n: p.requires_grad for n, p in self.model.encoders.named_parameters()}
        self.kept: dict[str, Tensor] = {}
        self.beside: dict[str, Tensor] = {}
        self._digests: dict[str, str] = {}  # hashes of the current encoders; a missing name means unknown
        self._cached: tuple[dict[str, str], CachedTokens] | None = None
        self._received = False  # whether encoders in memory came with the last message, and are not stored yet
        self._pretrained = False  # whether the encoders in memory learned without labels, and are not stored yet

    def receive(
        self, index: tuple[Entry, ...], buffer: Buffer, held: Mapping[str, str] | None = None
    ) -> dict[str, Tensor]:
        """Load the site's own tensors from its store and the rest from the message.

        Return the received parameters by name.

        Parameters
        ----------
        held
            Blocks that the message leaves out because they are in the store, with their digests.

        Raises
        ------
        ValueError
            The message contains tensors that this site does not accept, or leaves out what the site does not have.
        """
        own = {group_block(k) for k in self._patients.observed}
        if foreign := {e.block for e in index if e.block.startswith("group:")} - own:
            raise ValueError(f"the message contains blocks of groups that the site does not observe: {sorted(foreign)}")
        for name, parameter in self.model.encoders.named_parameters():  # as in a new process: roundings depend on it
            parameter.requires_grad_(self._trainable[name])
        self._pretrain()
        for name, found in self._store.digests().items():
            if self._digests.get(name) != found:
                self.model.encoders[name].load_state_dict(self._store.encoder(name, found))
                self._digests[name] = found
        self._require(held or {})
        rule, shared = self._rule, self._config.federation.encoders == "shared"
        tensors, self.beside = split_beside(unpack(index, buffer))
        known = {beside(word, name): t.shape for word in rule.broadcasts for name, t in tensors.items()}
        if strange := sorted(n for n, t in self.beside.items() if known.get(n) != t.shape):
            raise ValueError(f"tensor {strange[0]} is not one that this site accepts")
        groups_here = None if rule.groups_travel else tuple(self._patients.counts)
        received = install(self.model, tensors, shared, self._config.seed, groups_here, rule.sent)
        self._received = any(name.startswith(ENCODERS) for name in received)
        if self._received:
            self.mark_changed()
        self.kept = self._store.kept()
        named = dict(self.model.named_parameters())
        with torch.no_grad():
            for name in named.keys() & self.kept.keys():
                named[name].copy_(self.kept[name])
        return dict(received)

    def tokens(self, fresh: bool) -> TokenSource:
        """Return tokens with gradient, or cached tokens; a cache is valid only for the encoder weights that made it.

        Feature maps (of an outcome that is a mask) are too large to be cached: they are computed again at each step.
        """
        if fresh or self.model.maps:
            return FreshTokens(self.model, self.data)
        for name, encoder in self.model.encoders.items():
            if name not in self._digests:
                self._digests[name] = digest(encoder)
        if self._cached is None or self._cached[0] != self._digests:
            tokens = CachedTokens(self.model, self.data, self._store.tokens(), self._digests)
            self._cached = dict(self._digests), tokens
        return self._cached[1]

    def current_tokens(self) -> TokenSource:
        """Return tokens of the encoders in memory, which a method may have replaced for some steps."""
        if self.model.maps:
            return FreshTokens(self.model, self.data)
        digests = {name: digest(encoder) for name, encoder in self.model.encoders.items()}
        return CachedTokens(self.model, self.data, self._store.tokens(), digests)

    def mark_changed(self) -> None:
        """Mark the encoders as changed: from now on they may differ from the stored ones, even after an error."""
        self._digests = {}

    def save(
        self, optimizer: Optimizer | None, stage: int, trained: bool, since: int = 0, wanted: Sequence[int] = ()
    ) -> None:
        """Write the state to disk before the site answers; unchanged encoders are not written again.

        Parameters
        ----------
        optimizer
            None, as after an evaluation: the stored optimiser stays.
        trained
            Whether the encoders may have changed.
        stage, since, wanted
            See `SiteStore.save`.
        """
        travels = self._rule.sent(self.model)  # encoders are stored separately
        stays = {n: p for n, p in self.model.named_parameters() if not n.startswith(ENCODERS) and not travels(n)}
        kept = self.kept | {name: parameter.detach() for name, parameter in stays.items()}
        if optimizer is None:
            self._store.save_kept(kept)
        elif trained or self._pretrained or self._received:
            self._pretrained = self._received = False
            encoders = dict(self.model.encoders.items())
            self._digests = self._store.save(encoders, optimizer.state_dict(), stage, kept, since, wanted)
        else:
            self._store.save_optimizer(self._store.digests(), optimizer.state_dict(), stage, kept, since, wanted)

    def _require(self, held: Mapping[str, str]) -> None:
        """Refuse a message that leaves out encoders which this site has not, or no longer."""
        if not held:
            return
        travels = self._rule.sent(self.model)
        named = {name: p for name, p in self.model.named_parameters() if travels(name)}
        here = digests(encoders_of(named), self._config.federation.dtype)
        if lacking := sorted(block for block, digest_ in held.items() if here.get(block) != digest_):
            raise ValueError(f"the message leaves out {', '.join(lacking)}, which this site no longer has")

    def _pretrain(self) -> None:
        """Train the initial encoders without labels, before their first round; later they are read from the store."""
        if not self._config.model.encoders.pretraining_rounds or self._pretrained or self._store.digests():
            return
        seed = derive(self._config.seed, "pretraining", self._patients.site)
        pretrain(self.model, self._patients.cohort, self._config, seed)
        self._pretrained = True
        self.mark_changed()

    def reset(self) -> None:
        """Reset encoders, optimiser and the rule's state to those before the first round.

        The objective's state stays.
        """
        self.model.fusion.keep_groups((), self._config.seed)
        self._store.forget({name: kept for name, kept in self._store.kept().items() if name.startswith(OWN)})
        fresh = new_model(self._patients, self._config, self._store)  # after that, so that it fits what is forgotten
        self.model.load_state_dict(fresh.state_dict(), strict=False)
        self.mark_changed()
        self._pretrained = False
