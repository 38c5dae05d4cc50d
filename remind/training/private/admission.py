"""What a site must not do under a privacy guarantee, refused before anything is computed, with the reason."""

from torch import nn

from remind.config import Config
from remind.data.cohort.schema import CohortSchema
from remind.encoders import needs_fit
from remind.errors import several
from remind.training.private.layers import refuse_what_is_not_taped
from remind.training.site_model import SiteModel


def admit(model: SiteModel, schema: CohortSchema, config: Config) -> None:
    """Refuse a cohort or a model with which the guarantee would not hold.

    Numbers that are standardised by a site's own patients without noise break it even where they stay at the site: the
    gradients of all *other* patients pass through them.

    Raises
    ------
    UserError
        Names the modality, or the parameter.
    """
    fitted = [m.name for m in schema.modalities if needs_fit(m, config.model)]
    if fitted:
        raise several(
            f"privacy.mode = {config.privacy.mode!r} would not hold",
            [
                f"modality {name} is standardised by each hospital's own patients, without noise, and all gradients "
                'pass through that; for a table declare standardise = "given" with mean and std in cohort.toml, else '
                "leave the modality out"
                for name in fitted
            ],
        )
    if config.federation.encoders == "frozen":
        refuse_what_is_not_taped(_Only(model.fusion))
    else:
        refuse_what_is_not_taped(model)


class _Only(nn.Module):
    def __init__(self, fusion: nn.Module) -> None:
        super().__init__()
        self.fusion = fusion
