"""Features of synthetic modalities, one module per kind."""
