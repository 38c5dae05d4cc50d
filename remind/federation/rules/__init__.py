"""Federated rules: weights of sites, tensors to send, work of a site, and how replies become the next model."""
