"""The privacy ledger: what this hospital's patients have spent of their privacy, release by release, over all runs."""
