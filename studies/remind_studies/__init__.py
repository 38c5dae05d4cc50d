"""Studies of federated REMIND: which method serves which modality combination, with what certainty (`remind bench`)."""
