"""``remind-site run``: keeps a hospital's processes running, and stops them in order."""
