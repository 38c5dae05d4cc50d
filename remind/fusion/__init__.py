"""Fusion models: tokens of the modalities a patient has → class logits."""
