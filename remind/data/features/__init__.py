"""Summary features: one row of numbers per patient, as trees and linear models take them (docs/studies.md).

Columns follow from the schema alone, so that hospitals which share a schema have the same columns without telling each
other anything. Only the weights of words (idf) are learned, from training patients. What a patient lacks is NaN.
"""

from remind.data.features.columns import Columns
from remind.data.features.matrix import FeatureMap, Features

__all__ = ["Columns", "FeatureMap", "Features"]
