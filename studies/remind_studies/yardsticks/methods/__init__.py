"""Yardsticks, one per file."""
