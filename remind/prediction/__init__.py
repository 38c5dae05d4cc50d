"""Predict with the model of a finished run: class probabilities per patient. Nothing is trained and nothing is sent."""
