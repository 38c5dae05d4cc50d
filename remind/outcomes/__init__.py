"""Outcomes: what a model predicts of a patient. One file each; `base` has the interface and the registry.

A file declares the section ``[label]`` of cohort.toml, the record that sites share, the width of the model's head, the
loss of a patient, the statistics that merge exactly over sites, and the form of a prediction. Its scores are modules of
`remind.metrics.scores`, which name the outcomes that they are of.
"""
