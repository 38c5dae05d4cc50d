"""The hospital's part of a round: from a message to its answer."""
