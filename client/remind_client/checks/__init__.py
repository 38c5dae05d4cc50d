"""``remind-site check``: validates everything that can be wrong before the site connects."""
