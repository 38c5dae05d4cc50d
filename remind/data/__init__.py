"""Cohorts: their format on disk, reading and checking, splitting into sites, synthetic ones, batches.

Data flows one way: `declaration` (cohort.toml) → `read` (files) → `cohort` (arrays) → `sites` and `split` → `batch`
(tensors). Only `batch` needs torch. The format is written down for hospitals in docs/cohorts.md.
"""
