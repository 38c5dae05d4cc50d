"""The audit log's hash chain is the library's: the coordinator's record of operations has the same (`hash_chain`)."""

from remind.hash_chain import GENESIS, Entry, Head, canonical, head_of, parse, problems, sealed

__all__ = ["GENESIS", "Entry", "Head", "canonical", "head_of", "parse", "problems", "sealed"]
