"""The local engine: what a site does with the model it received."""
