"""Refuses models and cohorts for which the privacy guarantee would not hold, before anything is computed."""

from torch import nn

from remind.config import Config
from remind.data.cohort.schema import CohortSchema
from remind.encoders import needs_fit
from remind.errors import several
from remind.training.private.layers import require_recorded
from remind.training.site_model import SiteModel


def admit(model: SiteModel, schema: CohortSchema, config: Config) -> None:
    """Refuse a cohort or a model for which the guarantee would not hold.

    Means and scales that are computed from a site's own patients without noise break the guarantee, even if they stay
    at the site, because the gradients of all *other* patients depend on them.

    Raises
    ------
    UserError
        The text names the modality or the parameter.
    """
    require_given_scales(schema, config)
    if config.federation.encoders == "frozen":
        require_recorded(_Only(model.fusion))
    else:
        require_recorded(model)


def require_given_scales(schema: CohortSchema, config: Config) -> None:
    """Refuse a cohort whose numbers each hospital standardises with statistics of its own patients.

    Raises
    ------
    UserError
        The text names the modalities and the remedy.
    """
    remedies = {
        True: 'declare standardise = "given" with mean and std in cohort.toml, or leave it out',
        False: "no scale can be declared for this encoder; choose another one, or leave the modality out",
    }
    declared = {m.name: "standardise" in type(m).model_fields for m in schema.modalities}
    problems = [
        f"modality {m.name} ({m.kind}) is standardised by each hospital's own patients: {remedies[declared[m.name]]}"
        for m in schema.modalities
        if needs_fit(m, config.model)
    ]
    if problems:
        why = "all gradients depend on statistics that are fitted on patients without noise"
        raise several(f"privacy.mode = {config.privacy.mode!r} cannot be guaranteed: {why}", problems)


class _Only(nn.Module):
    def __init__(self, fusion: nn.Module) -> None:
        super().__init__()
        self.fusion = fusion
