"""The same federated job in this project, in other frameworks, and in a plain loop; see `benchmarks/peers.py`."""
