"""``remind-site check``: everything that can be wrong, looked at before anything connects."""
