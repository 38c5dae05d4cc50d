"""Which parameters of an initial model train, at which rate, and how strongly they are pulled back (``[start]``).

Encoders train at the full rate, and so do blocks of groups that the initial model does not have. All other parameters
came with the initial model: they are frozen, or train at a lower rate.
"""

from collections.abc import Callable, Collection, Iterable, Mapping

from torch import Tensor

from remind.config import Config
from remind.federation.blocks import SHARED, block_of, group_block
from remind.objectives.base import Names, is_head


def is_given(name: str, groups: Collection[int]) -> bool:
    """Return whether a parameter of `SiteModel` came with the initial model, which has these groups."""
    block = block_of(name)
    return block == SHARED or block in {group_block(k) for k in groups}


def moving(config: Config, groups: Collection[int]) -> Names | None:
    """Return which parameters train; None: all, as in a run without an initial model.

    Parameters
    ----------
    groups
        The groups of the initial model.
    """
    shared = config.start.shared
    if not config.start.model or shared == "tuned":
        return None
    return lambda name: not is_given(name, groups) or (shared == "head" and is_head(name))


def rates(config: Config, groups: Collection[int]) -> Callable[[str], float]:
    """Return the factor of a parameter's learning rate: ``start.rate`` if it came with the initial model, else 1."""
    if not config.start.model:
        return lambda name: 1.0
    return lambda name: config.start.rate if is_given(name, groups) else 1.0


def anchored(
    config: Config, given: Mapping[str, Tensor], after: Mapping[str, Tensor], moved: Iterable[str], lr: float
) -> dict[str, Tensor]:
    """Return the model after a round, with the initial model's parameters pulled back towards their initial values.

    θ ← θ₀ + (1 − lr·rate·anchor)^K·(θ − θ₀) for K local steps. This is decoupled decay, applied once per round by the
    coordinator, because a hospital that joins late does not have θ₀.

    Parameters
    ----------
    given
        θ₀ by name.
    moved
        Names of the parameters that the round changed.
    lr
        Learning rate of the round.
    """
    start = config.start
    left = max(1 - lr * start.rate * start.anchor, 0.0) ** config.train.local_steps
    names = [n for n in moved if n in given and start.anchor and not n.startswith("encoders.")]
    return {**after, **{n: given[n] + left * (after[n] - given[n]) for n in names}}
