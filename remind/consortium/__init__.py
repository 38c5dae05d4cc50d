"""What both ends of a consortium agree on before any run."""
