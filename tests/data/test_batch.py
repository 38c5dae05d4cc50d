"""Batches equal what a slow loop gathers."""

import numpy as np
import pytest
import torch

from remind.config import SyntheticConfig
from remind.data.batch import SeriesBatch, SiteData
from remind.data.synthetic import generate

COHORT = generate(SyntheticConfig(patients=80), 0)


@pytest.mark.parametrize("index", [[5, 3, 3, 79, 0], list(range(80)), [7], []])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gather(index, dtype):
    batch = SiteData(COHORT, dtype).batch(np.array(index, dtype=np.int64)).to("cpu")
    assert batch.index_B.tolist() == index
    assert batch.group_B.tolist() == COHORT.groups_N[index].tolist()
    assert batch.label_B.tolist() == COHORT.label_N[index].tolist()
    np.testing.assert_array_equal(batch.presence_Bm.numpy(), COHORT.presence_Nm[index])
    np.testing.assert_array_equal(batch.inputs["M1"].numpy(), COHORT.modalities["M1"].values_NF[index])
    assert batch.inputs["M1"].dtype == dtype
    series, found = COHORT.modalities["M2"], batch.inputs["M2"]
    assert isinstance(found, SeriesBatch)
    expected = [
        (series.time_O[o], series.item_O[o], series.value_O[o], b)
        for b, i in enumerate(index)
        for o in range(series.offsets_N1[i], series.offsets_N1[i + 1])
    ]
    actual = zip(*(x.tolist() for x in (found.time_O, found.item_O, found.value_O, found.patient_O)), strict=True)
    assert list(actual) == expected
    assert found.patients == len(index)
    assert found.value_O.dtype == dtype


def test_who_lacks_a_modality_has_no_observations():
    data = SiteData(COHORT)
    batch = data.batch(torch.arange(len(data)))
    with_some = torch.zeros(len(data), dtype=torch.bool)
    with_some[batch.inputs["M2"].patient_O] = True
    assert torch.equal(with_some, batch.presence_Bm[:, 1])
    assert torch.equal(~batch.inputs["M4"].isnan().all(dim=1), batch.presence_Bm[:, 3])
