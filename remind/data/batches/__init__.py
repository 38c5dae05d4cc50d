"""Batches of patients, read when they are needed."""
