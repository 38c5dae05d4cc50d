"""The only config tree: frozen, without unknown fields, validated once where it enters the program.

Every field is also a run-config key of the Flower app (``train.local-steps`` for ``train.local_steps``), so that
``--run-config`` of ``flwr run`` and ``--set`` of ``remind simulate`` speak the same words. `simulation/pyproject.toml`
lists the defaults; a test keeps the two equal.
"""

from remind.config.data import DataConfig, SyntheticConfig
from remind.config.evaluation import OPERATING_POINT, EvaluationConfig
from remind.config.federation import FederationConfig
from remind.config.model import EncoderConfig, MethodConfig, ModelConfig
from remind.config.privacy import PrivacyConfig
from remind.config.run import RUN_ID, RunSection, StartConfig
from remind.config.section import AtLeast1, Count, Fraction, NonNegative, Positive, Scalar, Section, Unit01
from remind.config.train import DroConfig, TrainConfig
from remind.config.tree import SINKS, Config

__all__ = [
    "OPERATING_POINT",
    "RUN_ID",
    "SINKS",
    "AtLeast1",
    "Config",
    "Count",
    "DataConfig",
    "DroConfig",
    "EncoderConfig",
    "EvaluationConfig",
    "FederationConfig",
    "Fraction",
    "MethodConfig",
    "ModelConfig",
    "NonNegative",
    "Positive",
    "PrivacyConfig",
    "RunSection",
    "Scalar",
    "Section",
    "StartConfig",
    "SyntheticConfig",
    "TrainConfig",
    "Unit01",
]
