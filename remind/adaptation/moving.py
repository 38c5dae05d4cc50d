"""What of the model to begin with trains, how fast, and how strongly it is held (``[start]``).

Encoders train in full, and so do blocks of groups that the model did not know. The rest was given: it stays, or trains
lightly.
"""

from collections.abc import Callable, Collection, Iterable, Mapping

from torch import Tensor

from remind.config import Config
from remind.federation.blocks import SHARED, block_of, group_block
from remind.objectives.base import Names, is_head


def is_given(name: str, groups: Collection[int]) -> bool:
    """Return whether a parameter of `SiteModel` came with the model to begin with, which knows these groups."""
    block = block_of(name)
    return block == SHARED or block in {group_block(k) for k in groups}


def moving(config: Config, groups: Collection[int]) -> Names | None:
    """Return which parameters train; None: all, as in a run with a new model.

    Parameters
    ----------
    groups
        Those that the model to begin with knows.
    """
    shared = config.start.shared
    if not config.start.model or shared == "tuned":
        return None
    return lambda name: not is_given(name, groups) or (shared == "head" and is_head(name))


def rates(config: Config, groups: Collection[int]) -> Callable[[str], float]:
    """Return the learning rate of a parameter, in units of the stage's: ``start.rate`` of what was given, else 1."""
    if not config.start.model:
        return lambda name: 1.0
    return lambda name: config.start.rate if is_given(name, groups) else 1.0


def anchored(
    config: Config, given: Mapping[str, Tensor], after: Mapping[str, Tensor], moved: Iterable[str], lr: float
) -> dict[str, Tensor]:
    """Return the model after a round, with what was given pulled back towards its values at the beginning.

    θ ← θ₀ + (1 − lr·rate·anchor)^K·(θ − θ₀), for K local steps: decoupled decay, once per round and at the coordinator,
    which alone knows θ₀ for hospitals that join late.

    Parameters
    ----------
    given
        θ₀ by name.
    moved
        Names of what the round changed.
    lr
        Learning rate of the round.
    """
    start = config.start
    left = max(1 - lr * start.rate * start.anchor, 0.0) ** config.train.local_steps
    names = [n for n in moved if n in given and start.anchor and not n.startswith("encoders.")]
    return {**after, **{n: given[n] + left * (after[n] - given[n]) for n in names}}
