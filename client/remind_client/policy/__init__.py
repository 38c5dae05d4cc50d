"""The hospital's policy: what it does not allow does not happen, whoever asks."""
