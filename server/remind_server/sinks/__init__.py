"""Optional sinks: write a run's numbers to tools that people already use."""
