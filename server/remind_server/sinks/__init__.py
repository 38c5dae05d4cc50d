"""Optional sinks: a run's numbers for tools that people may have already."""
