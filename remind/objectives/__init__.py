"""Losses per patient, and how groups are weighed against each other."""
