"""Protection of real patients: minimum counts, cell suppression, and differential privacy (docs/privacy.md)."""
