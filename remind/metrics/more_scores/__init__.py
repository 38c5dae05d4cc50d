"""Scores besides those of `remind.metrics.scores`: one module each, which registers itself (docs/extend.md)."""
