"""Sends alerts about a run to people: through a webhook, or through a command, for example one that sends e-mail."""
