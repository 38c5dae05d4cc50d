"""Local steps with a privacy guarantee: per-patient gradients, Poisson draws, noise (docs/privacy.md)."""
