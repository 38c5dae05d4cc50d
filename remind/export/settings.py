"""The settings of a run in an exported folder: how inputs are standardised, and the config without local paths."""

import os
from pathlib import Path
from typing import Any

from remind.data.cohort.kinds.series_schema import SeriesSchema
from remind.data.cohort.kinds.table import TableSchema
from remind.encoders import needs_fit
from remind.prediction.bundle import Bundle


def preprocessing(bundle: Bundle) -> dict[str, Any]:
    """Return how inputs are standardised, by modality; statistics only if the cohort's declaration contains them."""
    found: dict[str, Any] = {}
    for schema in bundle.schema.modalities:
        about: dict[str, Any] = {"kind": schema.kind, "statistics": "none"}
        if isinstance(schema, TableSchema | SeriesSchema) and schema.standardise == "given":
            about |= {"statistics": "declared", "mean": schema.mean, "std": schema.std}
        elif needs_fit(schema, bundle.config.model):
            about["statistics"] = "each hospital's own, from its training patients; its encoder contains them"
        if isinstance(schema, SeriesSchema):
            about["horizon_hours"] = schema.horizon_hours
        found[schema.name] = about
    return found


def public_config(bundle: Bundle) -> dict[str, Any]:
    """Return the run's settings without the paths of the machine that it ran on."""
    config = bundle.config
    data = config.data.model_copy(update={"cohort": bundle.schema.name, "root": ""})
    encoders = config.model.encoders
    names = {
        field: Path(value).name
        for field in ("image_weights", "volume_weights", "text")
        if os.sep in (value := str(getattr(encoders, field))) and Path(value).is_absolute()
    }
    model = config.model.model_copy(update={"encoders": encoders.model_copy(update=names)})
    return {"config": config.model_copy(update={"data": data, "results": "", "model": model}).model_dump(mode="json")}
