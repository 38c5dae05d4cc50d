"""Tell people outside the page what happened: by a webhook, or by a command such as one that sends an e-mail."""
