"""What a generator of features is asked for, and the registry of generators by kind of modality.

All features are linear in the patient's latents. Letters: N patients, K latents.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remind.data.cohort.contents import Contents
from remind.data.cohort.schema import ModalitySchema
from remind.extensions import load_extensions, load_folder

LATENTS = 3  # K
FEATURE_NOISE = 0.1  # standard deviation, relative to that of the noiseless feature


@dataclass(frozen=True)
class Asked:
    """One modality to generate.

    Attributes
    ----------
    kind, name
        Of the modality.
    latents_NK
        Independent standard normal numbers of all patients; features follow them linearly, with `FEATURE_NOISE`.
    present_N
        Who will have the modality. The data of others are removed afterwards, so that large ones need not be made.
    size
        Pixels along a side, for pictures.
    given
        Whether tables declare mean and deviation of their numbers.
    rng
        The only source of chance.
    """

    kind: str
    name: str
    latents_NK: NDArray[np.float64]
    present_N: NDArray[np.bool_]
    size: int
    rng: np.random.Generator
    given: bool = False


Make = Callable[[Asked], tuple[ModalitySchema, Contents]]
_MAKERS: dict[str, Make] = {}


def makes(*kinds: str) -> Callable[[Any], Any]:
    """Register a function from `Asked` to a schema and contents as the generator of these kinds."""

    def add(make: Any) -> Any:
        _MAKERS.update(dict.fromkeys(kinds, make))
        return make

    return add


def makers() -> Mapping[str, Make]:
    """Return every generator by its kind."""
    load_folder("remind.data.synthetic.features")
    load_extensions()
    return dict(sorted(_MAKERS.items()))
