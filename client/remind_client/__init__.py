"""The hospital: a Flower ClientApp that keeps its data and encoders, and decides what is allowed."""
