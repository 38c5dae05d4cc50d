"""The guard and the warm worker: where a coordinator's task meets this hospital."""
