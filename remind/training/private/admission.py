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
    require_given_scales(schema, config)
    if config.federation.encoders == "frozen":
        refuse_what_is_not_taped(_Only(model.fusion))
    else:
        refuse_what_is_not_taped(model)


def require_given_scales(schema: CohortSchema, config: Config) -> None:
    """Refuse a cohort whose numbers hospitals standardise by their own patients.

    Raises
    ------
    UserError
        Names the modalities and what to do.
    """
    remedies = {
        True: 'declare standardise = "given" with mean and std in cohort.toml, or leave it out',
        False: "no scale can be declared for this kind of modality; leave it out",
    }
    problems = [
        f"modality {m.name} ({m.kind}) is standardised by each hospital's own patients: {remedies[m.kind == 'table']}"
        for m in schema.modalities
        if needs_fit(m, config.model)
    ]
    if problems:
        why = "all gradients pass through what is fitted on patients without noise"
        raise several(f"privacy.mode = {config.privacy.mode!r} would not hold, as {why}", problems)


class _Only(nn.Module):
    def __init__(self, fusion: nn.Module) -> None:
        super().__init__()
        self.fusion = fusion
