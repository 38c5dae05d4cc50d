"""How patients lie in hospitals and in parts of the split."""
