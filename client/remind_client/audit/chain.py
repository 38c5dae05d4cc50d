"""The audit log uses the library's hash chain, like the coordinator's record of operations (`hash_chain`)."""

from remind.hash_chain import GENESIS, Entry, Head, canonical, head_of, parse, problems, sealed

__all__ = ["GENESIS", "Entry", "Head", "canonical", "head_of", "parse", "problems", "sealed"]
