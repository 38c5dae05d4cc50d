"""The dashboard: a read-only web page over the run store (docs/dashboard.md)."""
