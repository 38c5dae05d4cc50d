"""Training of a site's encoders before the first round, without labels: nothing of it leaves the site.

The encoders of tables and series learn to tell values that were hidden from them (`HiddenValues`), on the site's
training patients and on patients without a label. Encoders of other kinds keep their initial weights.
"""

import logging
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch.nn import Parameter

from remind.config import Config
from remind.data.batches.batch import SiteData
from remind.data.batches.lazy import Request
from remind.data.cohort.cohort import TRAIN, Cohort, concatenate
from remind.encoders import Encoder
from remind.seeds import derive, seeded
from remind.training.local import optimizer_of
from remind.training.site_model import SiteModel

log = logging.getLogger(__name__)


def learners(cohort: Cohort) -> Cohort:
    """Return a site's training patients, and its patients without a label who are no validation or test patients.

    A person may have visits with and without a label. Of a person who is tested nothing is learned.
    """
    assert cohort.split_N is not None
    training, others = cohort.take(np.flatnonzero(cohort.split_N == TRAIN)), cohort.unlabelled
    if others is None:
        return training
    held_out_N = np.isin(others.person_N, cohort.person_N[cohort.split_N != TRAIN])
    if others.split_N is not None:
        held_out_N |= others.split_N != TRAIN
    return concatenate([training, others.take(np.flatnonzero(~held_out_N))])


def pretrain(model: SiteModel, cohort: Cohort, config: Config, seed: int) -> None:
    """Train the encoders in place: ``pretraining-rounds`` × ``train.local-steps`` steps of ``train.batch`` patients.

    The result is deterministic for a seed, and does not depend on which modalities the site has besides.
    """
    patients, like, encoders = learners(cohort), model.like, dict(model.encoders.items())
    data = SiteData(patients, like.dtype, like.device)
    for i, name in enumerate(patients.schema.names):
        encoder = encoders.get(name)
        rows = np.flatnonzero(patients.presence_Nm[:, i])
        if not isinstance(encoder, Encoder) or not len(rows):
            continue
        own = derive(seed, name)
        with seeded(own, like.device):
            if (hidden := encoder.hidden_values()) is None:
                continue
            hidden.to(like.device, like.dtype).train()
            optimizer = optimizer_of(config.train, [{"params": trainable(model, name, list(hidden.parameters()))}])
            losses = []
            for batch in data.batches([Request(index_B, only=(name,)) for index_B in draws(rows, config, own)]):
                if (loss := hidden(batch.inputs[name])) is not None:
                    optimizer.zero_grad(set_to_none=True)
                    loss.backward()
                    optimizer.step()
                    losses.append(float(loss.detach()))
            hidden.zero_grad(set_to_none=True)
        tenth = max(len(losses) // 10, 1)
        if losses:
            ends = float(np.mean(losses[:tenth])), float(np.mean(losses[-tenth:]))
            log.info("%s: %d patients without labels, loss of hidden values %.3f, then %.3f", name, len(rows), *ends)


def trainable(model: SiteModel, name: str, parameters: list[Parameter]) -> list[Parameter]:
    """Return the parameters without those of the encoder that never train."""
    named = model.encoders[name].named_parameters(prefix=name)
    fixed = {id(parameter) for key, parameter in named if key in model.fixed}
    return [parameter for parameter in parameters if id(parameter) not in fixed]


def draws(rows: NDArray[np.int64], config: Config, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield the patients of each step: everybody once, in a random order, before anybody again."""
    rng, size = np.random.default_rng(seed), min(config.train.batch or len(rows), len(rows))
    waiting = np.empty(0, dtype=np.int64)
    for _ in range(config.model.encoders.pretraining_rounds * config.train.local_steps):
        if len(waiting) < size:
            waiting = np.concatenate([waiting, rng.permutation(rows)])
        yield waiting[:size]
        waiting = waiting[size:]
