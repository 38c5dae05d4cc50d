"""Adapt a trained model at a hospital that did not take part in its training."""
