"""Secure aggregation: the coordinator learns sums over hospitals, and nothing about a single hospital.

Implements the protocol of Bonawitz et al. 2017 (eprint 2017/281). All keys are dealt before the first round, each block
has its own self-masks, and every round has an unmasking exchange (docs/secure-aggregation.md). This package does not
depend on messages, files or networks.
"""
