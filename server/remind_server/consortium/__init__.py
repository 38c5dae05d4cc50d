"""``remind consortium``: make a consortium, let hospitals in and out, serve it, start runs.

docs/coordinator-guide.md is for those who do it.
"""

PASSPHRASE = "REMIND_CA_PASSPHRASE"  # environment variable with that of the CA's key
