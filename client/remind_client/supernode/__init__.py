"""The site's SuperNode: Flower's, with what it lacks to survive an ordinary week. `loop.py` says what that is."""
