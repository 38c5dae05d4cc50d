"""The site's SuperNode: Flower's SuperNode with fixes for errors of daily operation. `loop.py` lists them."""
