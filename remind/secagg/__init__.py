"""Secure aggregation: a coordinator learns sums over hospitals, nothing of a single one (docs/secure-aggregation.md).

The protocol of Bonawitz et al. 2017 (eprint 2017/281), with all keys dealt before the first round, self-masks per
block, and an unmasking exchange in every round. Knows nothing of messages, files or networks.
"""
