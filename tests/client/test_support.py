"""The fixed sample of a model that compares patients is encoded as the encoders are when it is measured."""

import torch

from remind.data.cohort.cohort import TRAIN
from remind.fusion.support import TokenPool
from remind_client.rounds.site import Site
from remind_client.store.site_store import SiteStore
from tests.builders.cohorts import cohort
from tests.builders.configs import settings
from tests.builders.sites import CPU


def test_the_sample_follows_the_encoders_in_stage_1(tmp_path):
    config = settings({"method.fusion": "m3care(reference = 8)", "method.objective": "erm"})
    engine = Site("s", cohort([7] * 20, split_N=[0] * 20), config, SiteStore(tmp_path), CPU, 1).engine
    source = engine.state.tokens(fresh=True)

    def measured():
        engine.evaluation.losses(source, TRAIN, False)
        tokens, _ = engine._support.pool.patients(8)
        return torch.cat(tokens, dim=1)

    first, again = measured(), measured()
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    with torch.no_grad():
        for parameter in engine.model.encoders.parameters():
            parameter.add_(0.1)
    assert not torch.allclose(measured(), first)
    rows = engine._support._sample(engine.patients.index[TRAIN], 8)
    engine.model.eval()
    with torch.no_grad():
        _, now_NMD = next(engine.state.tokens(fresh=True).batches([rows]))
    pool = TokenPool(engine.model.by_modality(now_NMD), torch.ones(8, 3).bool(), engine._support.pool.seed)
    now, _ = pool.patients(8)
    torch.testing.assert_close(torch.cat(now, dim=1), measured())
