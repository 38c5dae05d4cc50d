"""Rows of tables, such as an embedding of codes, that go back as they were received: too few patients read them."""

from collections.abc import Collection, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from remind.data.batches.batch import SiteData
from remind.data.batches.lazy import Request
from remind.encoders.base import Encoder
from remind.federation.blocks import ENCODERS
from remind.training.work import LocalWork
from remind_client.rounds.small_updates import pulls, rows_below_minimum

Rows = Mapping[str, NDArray[np.bool_]]


def rows_to_withhold(work: LocalWork, data: SiteData, sent: Collection[str], minimum: int) -> Rows:
    """Return parameter → rows that may not leave, (rows,) bool, of the tables among the parameters that are sent."""
    pull_N = pulls(work.plan, len(data))
    found: dict[str, NDArray[np.bool_]] = {}
    for name, encoder in work.model.encoders.items():
        prefix = f"{ENCODERS}{name}."
        if not isinstance(encoder, Encoder) or type(encoder).rows is Encoder.rows:
            continue
        if not any(one.startswith(prefix) for one in sent):
            continue
        has_N = data.cohort.presence_Nm[:, data.cohort.schema.names.index(name)]
        drawn = np.flatnonzero(has_N & (pull_N > 0))
        chunks = [drawn[i : i + work.source.chunk] for i in range(0, len(drawn), work.source.chunk)]
        readings: dict[str, list[NDArray[np.int64]]] = {}  # by table: rows and patients (2, R)
        for chunk, batch in zip(chunks, data.batches([Request(c, only=(name,)) for c in chunks]), strict=True):
            for table, (row, patient) in encoder.rows(batch.inputs[name]).items():
                some_2R = np.stack([row.cpu().numpy(), chunk[patient.cpu().numpy()]])
                readings.setdefault(table, []).append(some_2R)
        for table, parts in readings.items():
            rows, (row_R, patient_R) = len(encoder.get_parameter(table)), np.concatenate(parts, axis=1)
            found[prefix + table] = rows_below_minimum(row_R, pull_N[patient_R], patient_R, rows, minimum)
    return {name: below for name, below in found.items() if name in sent}


def with_rows_as_received(
    tensors: Mapping[str, Tensor], received: Mapping[str, Tensor], rows: Rows
) -> dict[str, Tensor]:
    """Return the tensors, the rows that may not leave as they were received."""
    found = dict(tensors)
    for name, below in rows.items():
        few_R1 = torch.from_numpy(below).to(found[name].device).unsqueeze(1)
        found[name] = torch.where(few_R1, received[name].to(found[name]), found[name].detach())
    return found
