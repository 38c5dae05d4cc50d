"""Per-group statistics that merge exactly, and the metrics computed from them."""
