"""One module per kind of modality; each registers its `remind.data.cohort.kind.Kind`."""
