"""Losses per patient, and the weights of groups relative to each other."""
