"""The privacy ledger: records the privacy cost of every release of this hospital, over all runs."""
