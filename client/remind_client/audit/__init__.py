"""The audit log: what was asked of this site, what it answered, what it refused. Append-only, hash-chained."""
