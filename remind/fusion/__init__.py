"""Fusion models: they convert the tokens of a patient's modalities into class logits."""
