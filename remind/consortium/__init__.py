"""What hospitals and coordinator of a consortium agree on before any run."""
