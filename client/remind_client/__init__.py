"""The hospital: a Flower ClientApp that keeps its data, its encoders and the last word."""
