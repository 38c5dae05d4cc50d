"""A trained model at a hospital that was not there when it was trained."""
