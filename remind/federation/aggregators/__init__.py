"""Aggregators: how the replies of a round become one model, block by block."""
