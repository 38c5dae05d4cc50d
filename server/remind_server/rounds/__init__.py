"""The rounds of a run: strategy, tasks, replies, model."""
