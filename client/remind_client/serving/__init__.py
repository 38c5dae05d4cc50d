"""``remind-site serve``: a hospital's model answers requests for single patients on loopback (docs/serve.md)."""
