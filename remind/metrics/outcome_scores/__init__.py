"""Scores of outcomes other than classes; each is one module, which registers itself."""
