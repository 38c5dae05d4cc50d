"""Per-group statistics that merge exactly, and the metrics read off them."""
