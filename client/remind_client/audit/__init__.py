"""The audit log records every request, every answer and every refusal. It is append-only and hash-chained."""
