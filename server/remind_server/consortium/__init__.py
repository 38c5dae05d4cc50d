"""``remind consortium``: create a consortium, enrol and revoke hospitals, serve it, start runs.

The operator's manual is docs/coordinator-guide.md.
"""

PASSPHRASE = "REMIND_CA_PASSPHRASE"  # environment variable with that of the CA's key
