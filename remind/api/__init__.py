"""The API for notebooks: cohorts, runs and registration, as attributes of `remind`."""
