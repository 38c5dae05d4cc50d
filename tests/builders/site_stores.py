"""What a site keeps on disk."""

import torch
from torch import nn

from remind_client.store.site_store import SiteStore


class Encoder(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.full((3,), value))
        self.register_buffer("mean", torch.tensor(value, dtype=torch.float64))


def state(value: float):
    parameter = nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.AdamW([parameter], lr=value)
    parameter.sum().backward()
    optimizer.step()
    return {"a": Encoder(value)}, optimizer.state_dict()


def saved(store: SiteStore, value: float, stage: int) -> dict[str, str]:
    """Save the state of this value; the digests."""
    encoders, optimizer = state(value)
    return store.save(encoders, optimizer, stage)


def weights(store: SiteStore):
    return store.encoder("a", store.digests()["a"])


def held(store: SiteStore, stage: int = 1):
    optimizer = store.optimizer(stage)
    return weights(store)["w"][0].item(), optimizer["param_groups"][0]["lr"] if optimizer else None
