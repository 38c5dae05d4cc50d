"""Federated rules: who weighs how much, what travels, what a site does, how replies become the next model."""
