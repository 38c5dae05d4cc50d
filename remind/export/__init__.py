"""Hand-over: what a run has learned as a folder that others can open, run and publish (`remind export`)."""
