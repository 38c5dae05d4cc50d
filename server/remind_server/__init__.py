"""The coordinator: aggregates the answers of hospitals and never receives their data."""
