"""Rounds under secure aggregation: their setup, the replies under masks, and what can be read of the sum."""

from remind.former_names import moved

__getattr__ = moved(__name__, {"remind_server.rounds.secure.aggregation": "SecureAggregation"})
