"""Studies, one per file."""
