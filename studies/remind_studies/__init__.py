"""Studies (`remind bench`): compare methods for each modality combination, with intervals and tests."""
