"""The model at work: probabilities for a patient, from what a run left behind. Trains nothing and sends nothing."""
