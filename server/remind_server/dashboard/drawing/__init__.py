"""How pages draw numbers: bars, strips, pictures, and the templates' filters."""
