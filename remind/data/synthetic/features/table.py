"""Tables: columns that are mixtures of the latents. Letters: N patients, K latents, F columns."""

import numpy as np

from remind.data.cohort.kinds.table import Table, TableSchema
from remind.data.synthetic.features.base import FEATURE_NOISE, LATENTS, Asked, makes

COLUMNS, LEVELS = 8, ("low", "middle", "high")
CELL_MISSING = 0.05  # of the numeric cells


@makes("table")
def make_table(asked: Asked) -> tuple[TableSchema, Table]:
    """Draw numeric columns linear in the latents, some cells missing, and one category derived from latent 1."""
    name, latents_NK, rng = asked.name, asked.latents_NK, asked.rng
    n = len(latents_NK)
    mix_KF = rng.standard_normal((LATENTS, COLUMNS))
    mix_KF /= np.linalg.norm(mix_KF, axis=0)
    clean_NF = latents_NK @ mix_KF + FEATURE_NOISE * rng.standard_normal((n, COLUMNS))
    mean_F, scale_F = rng.uniform(-50, 50, COLUMNS), rng.uniform(1, 20, COLUMNS)
    numeric_NF = mean_F + scale_F * clean_NF
    lost_NF = rng.random((n, COLUMNS)) < CELL_MISSING
    lost_NF[:, 0] = False  # a patient who has the modality has at least one value
    level_N = np.digitize(latents_NK[:, 0] + FEATURE_NOISE * rng.standard_normal(n), [-0.43, 0.43])
    values_NF = np.column_stack([np.where(lost_NF, np.nan, numeric_NF), level_N]).astype(np.float32)
    columns = (*(f"x{i + 1}" for i in range(COLUMNS)), "grade")
    schema = TableSchema(name=name, columns=columns, categories={"grade": LEVELS})
    if asked.given:
        std_F = scale_F * np.sqrt(1 + FEATURE_NOISE**2)
        known = {
            "mean": dict(zip(columns, mean_F.tolist(), strict=False)),
            "std": dict(zip(columns, std_F.tolist(), strict=False)),
        }
        schema = schema.model_copy(update={"standardise": "given"} | known)
    return schema, Table(values_NF)
