"""Export a trained model as a folder that others can open, run and publish (`remind export`)."""
