"""Virtual hospitals: `remind simulate`, and the options added to `flwr run`."""
