"""The feature matrix of a cohort. Letters: N patients, F columns, m modalities."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from remind.data.cohort.cohort import Cohort
from remind.data.cohort.schema import CohortSchema
from remind.data.features.columns import Columns, Floats
from remind.data.features.kinds import columns_of, values_of
from remind.data.features.words import word_weights


@dataclass(frozen=True)
class Features:
    """Features of N patients.

    Attributes
    ----------
    values_NF
        float64; NaN where a patient lacks the modality, the item or the value.
    columns
        What the F columns are.
    """

    values_NF: Floats
    columns: Columns

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> "Features":
        """Return the features of the patients at these positions, or under this mask."""
        return replace(self, values_NF=self.values_NF[index])


@dataclass(frozen=True)
class FeatureMap:
    """From patients to features.

    Attributes
    ----------
    schema
        Of the cohorts that it takes.
    idf
        Weight of each hashed word, by text modality; a modality without an entry has the weight 1 for every word.
    """

    schema: CohortSchema
    idf: dict[str, Floats]

    @classmethod
    def of(cls, schema: CohortSchema) -> Self:
        """Return the map that needs no patients: hospitals with one schema have the same."""
        return cls(schema, {})

    @classmethod
    def fitted(cls, train: Cohort) -> Self:
        """Return the map with word weights of these training patients."""
        texts = [m.name for m in train.schema.modalities if m.kind == "text"]
        return cls(train.schema, {name: word_weights(train, name) for name in texts})

    def features(self, cohort: Cohort) -> Features:
        """Compute the features of a cohort: the columns of each modality in turn, then which modalities are there.

        A patient's row depends on this patient alone.

        Raises
        ------
        UserError
            A file of the cohort can no longer be read.
        """
        parts = [values_of(modality, cohort, self.idf.get(modality.name)) for modality in self.schema.modalities]
        columns = [columns_of(modality) for modality in self.schema.modalities]
        present = Columns.numeric(f"{name} is there" for name in self.schema.names)
        values_NF = np.concatenate([*parts, cohort.presence_Nm.astype(np.float64)], axis=1)
        return Features(values_NF, Columns.joined([*columns, present]))
