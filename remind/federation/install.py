"""Installs received blocks in a site's model, and extracts them again."""

from collections.abc import Callable, Collection, Iterable, Mapping

import torch
from torch import Tensor
from torch.nn import Parameter

from remind.federation.blocks import SHARED, block_of, travelling
from remind.training.site_model import SiteModel


@torch.no_grad()
def install(
    model: SiteModel,
    tensors: Mapping[str, Tensor],
    encoders_shared: bool,
    seed: int,
    groups: Collection[int] | None = None,
    sent: Callable[[SiteModel], Callable[[str], bool]] = lambda model: lambda name: True,
) -> dict[str, Parameter]:
    """Load received tensors; afterwards the model knows exactly the given groups.

    Returns the parameters that were loaded.

    Parameters
    ----------
    groups
        Groups that the model must know; None: those whose blocks were received.
    sent
        The federated rule's decision which tensors of a model are sent; all others stay as the site has them.

    Raises
    ------
    ValueError
        The site does not accept a tensor (an encoder's although encoders are local, an unknown name, a wrong shape), or
        a shared tensor is missing.
    """
    if groups is None:
        groups = {int(block_of(name).partition(":")[2]) for name in tensors if block_of(name).startswith("group:")}
    model.fusion.keep_groups(groups, seed)
    allowed = travelling(model.named_parameters(), encoders_shared, sent(model))
    for name, tensor in tensors.items():
        if name not in allowed:
            raise ValueError(f"tensor {name} is not one that this site accepts")
        if tensor.shape != allowed[name].shape:
            raise ValueError(f"tensor {name} has shape {tuple(tensor.shape)}, here {tuple(allowed[name].shape)}")
        allowed[name].copy_(tensor)
    if absent := [n for n in allowed if n not in tensors and not block_of(n).startswith("encoder:")]:
        raise ValueError(f"tensors are missing: {', '.join(absent[:3])}")
    return {name: allowed[name] for name in tensors}


def gradient_scale(
    names: Iterable[str], share: float, block_weights: Mapping[str, float], staying: Iterable[str] = ()
) -> dict[str, float]:
    """Return W_s / a_s, the factor that turns the gradient of F_s / W_s into that of F_s / a_s (see `weights`).

    Parameters
    ----------
    names
        Tensors that are sent. Shared ones need no factor, because their a_s is W_s.
    share, block_weights
        W_s, and a_s of each block.
    staying
        Tensors of the joint objective that are never sent, such as local encoders. Of Σ_s F_s only the site's own part
        reaches them, and nobody shares the average: a_s = 1, the factor is W_s.
    """
    travelling = {
        name: share / block_weights[block_of(name)]
        for name in names
        if block_of(name) != SHARED and block_weights.get(block_of(name), 0) > 0
    }
    return dict.fromkeys(staying, share) | travelling
