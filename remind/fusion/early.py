"""Early fusion: the features of all modalities are concatenated before the first layer.

    x = [x_1, …, x_m], zeros for the missing;  logits = W2 gelu(W1 x)

Difference from the textbook: the inputs are the means of the modalities' tokens, not raw values. All methods of a run
share its encoders, raw values (images, series) have no common shape, and with concatenated token sequences W1 would be
larger than all other parameters together.

Shapes: B patients, m modalities, D width, C classes.
"""

from collections.abc import Sequence

from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from remind.config import Count
from remind.fusion.base import Context, FusionModel, FusionOptions, FusionOutput, registry
from remind.fusion.layers import hidden_layer, modality_means


class EarlyOptions(FusionOptions):
    """Size of the network."""

    expansion: Count = Field(4, description="hidden width, in units of D")


@registry.register(
    "early",
    title="inputs concatenated, zeros for missing ones, one network for all",
    paper="textbook baseline; Baltrušaitis et al., TPAMI 2019, arXiv 1705.09406",
    year=2019,
    options=EarlyOptions,
)
class EarlyFusion(FusionModel):
    """Fusion without parameters of a group. The network does not know which zeros mean missing."""

    private = True

    def __init__(self, context: Context, options: EarlyOptions) -> None:
        super().__init__(context, options)
        inputs, hidden = len(context.modalities) * context.width, options.expansion * context.width
        self.hidden = hidden_layer(inputs, hidden, context.dropout)
        self.head = nn.Linear(hidden, context.classes)

    @override
    def fuse(self, tokens: Sequence[Tensor], presence_Bm: Tensor, group_B: Tensor, routing: bool) -> FusionOutput:
        return FusionOutput(self.head(self.hidden(modality_means(tokens).flatten(1))))
