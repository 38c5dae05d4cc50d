"""Studies: a file each."""
