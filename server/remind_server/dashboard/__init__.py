"""The page the coordinator watches: reads the run store, changes nothing in it (docs/dashboard.md)."""
