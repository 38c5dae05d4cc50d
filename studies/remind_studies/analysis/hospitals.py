"""The hospitals of a simulation with their models, for the evaluations of an analysis.

The patients of all hospitals are evaluated together, each with the tokens of the own hospital's encoders. This needs a
simulation: with real hospitals, nobody has the patients and the model of more than one hospital.

Shapes: N patients of a hospital, B in a batch, n of a few drawn ones.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from remind import groups
from remind.config import Config
from remind.data.batches.batch import Batch
from remind.data.cohort.cohort import TRAIN
from remind.data.cohort.schema import CohortSchema
from remind.data.sites.hospitals import virtual_hospitals
from remind.federation.blocks import DTYPES, block_of, group_block, index_of, pack
from remind.fusion.base import FusionOutput, group_of
from remind.global_model import GlobalModel
from remind.outcomes.base import require
from remind.training.device import choose_device
from remind.training.site_data import TokenSource
from remind.training.token_cache import TokenCache
from remind_client.engine.site_engine import SiteEngine
from remind_client.load import prepare_process
from remind_client.rounds.site import Site
from remind_client.store.site_store import SiteStore
from remind_server.outputs.records import Observer, RunResult
from remind_server.rounds.tasks import shared_modalities
from remind_studies.cells.together import train_together

Integers = NDArray[np.int64]
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class ReadOnlyStore(SiteStore):
    """A site's store that is not written to: computed tokens are stored in another folder."""

    elsewhere: Path = Path()

    @override
    def tokens(self) -> TokenCache:
        return TokenCache(self.elsewhere)


@dataclass(frozen=True)
class View:
    """One hospital and its model, valid within `Hospitals.in_use`."""

    engine: SiteEngine
    source: TokenSource
    routing: bool

    def outputs(self, index_N: Integers, hide: int | None = None) -> Iterator[tuple[Batch, FusionOutput]]:
        """Yield the model's outputs on the patients at these positions, in evaluation mode, batch by batch.

        Parameters
        ----------
        hide
            Position of a modality to hide: the patients are treated as members of the group without it. They must have
            another modality.
        """
        model, chunk = self.engine.model, self.source.chunk
        parts = [part for part in np.split(index_N, range(chunk, len(index_N), chunk)) if len(part)]
        for batch, tokens_BMD in self.source.batches(parts):
            presence_Bm = batch.presence_Bm
            if hide is not None:
                presence_Bm = presence_Bm.clone()
                presence_Bm[:, hide] = False
            with torch.no_grad():
                output = model.fuse(tokens_BMD, presence_Bm, group_of(presence_Bm), self.routing)
            yield batch, output


class Hospitals:
    """The virtual hospitals of a run in this process.

    Parameters
    ----------
    config
        The run's.
    number
        Number of hospitals; None: from the cohort's site column.
    folder
        Folder for the sites' own files.
    stored
        ``sites/`` of a finished run, which is only read; None: the hospitals will be trained.

    Raises
    ------
    UserError
        The cohort cannot be read, or cannot be divided into this many hospitals.
    """

    def __init__(self, config: Config, number: int | None, folder: Path, stored: Path | None = None) -> None:
        prepare_process(config.threads)
        self.config = config
        device = choose_device(config.device)
        hospitals = virtual_hospitals(config.data, config.synthetic, config.seed, number)
        self.schema: CohortSchema = hospitals[0].cohort.schema
        require(self.schema.predicts, "remind analyze")
        self.sites = []
        for i, hospital in enumerate(hospitals):
            own = folder / str(i)
            store = ReadOnlyStore(stored / str(i), elsewhere=own / "tokens") if stored else SiteStore(own)
            self.sites.append(Site(hospital.name, hospital.cohort, config, store, device))

    def counts(self, part: int = TRAIN) -> dict[int, int]:
        """Return the patients of each group in one part of the split; for the training part these are n_k."""
        return groups.counts(np.concatenate([s.cohort.groups_N[s.engine.patients.index[part]] for s in self.sites]))

    def train(self, observers: Sequence[Observer]) -> RunResult:
        """Run the federation.

        Raises
        ------
        UserError
            A site was missing in the end.
        """
        return train_together(self.config, self.sites, observers)

    @contextmanager
    def in_use(self, tensors: Tensors, routing: bool, every_group: bool = False) -> Iterator[list[View]]:
        """Give each hospital's model these tensors of the coordinator.

        This does not disturb a training in progress, because every message contains its own tensors.

        Parameters
        ----------
        routing
            Whether Φ_k is in use.
        every_group
            Whether the model also has the groups that only other hospitals observe, if the rule sends groups: a patient
            with a hidden modality may be in one of them.
        """
        with ExitStack() as stack:
            views = [self._view(site.engine, tensors, routing, stack) for site in self.sites]
            if every_group:
                for site in self.sites:
                    self._add_groups(site.engine, tensors)
            yield views

    def _view(self, engine: SiteEngine, tensors: Tensors, routing: bool, stack: ExitStack) -> View:
        dtype = self.config.federation.dtype
        shared = shared_modalities(self.config, self.schema, engine.patients.observed)
        sent = GlobalModel(tensors).select(engine.patients.observed, shared)
        received = engine.state.receive(index_of(sent, dtype), pack(sent, dtype))
        source = engine.state.tokens(fresh=False)
        stack.enter_context(engine.methods.rule.measured(engine.work.evaluation(source, received, routing)))
        engine.model.eval()
        return View(engine, source, routing)

    @torch.no_grad()
    def _add_groups(self, engine: SiteEngine, tensors: Tensors) -> None:
        """Add the tensors of groups that only other hospitals have, as the coordinator would send them."""
        here = {group_block(k) for k in engine.patients.observed}
        others = {n: t for n, t in tensors.items() if block_of(n).startswith("group:") and block_of(n) not in here}
        engine.model.fusion.add_groups({int(block_of(n).partition(":")[2]) for n in others}, self.config.seed)
        named = dict(engine.model.named_parameters())
        for name, tensor in others.items():
            named[name].copy_(tensor.to(DTYPES[self.config.federation.dtype]))
