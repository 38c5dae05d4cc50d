"""``remind-site run``: keeps a hospital's processes up, and takes them down in order."""
