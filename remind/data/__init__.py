"""Cohorts: their format on disk, reading and checking, splitting into sites, synthetic cohorts, batches.

Data flows one way: `declaration` (cohort.toml) → `read` (files) → `cohort` (arrays) → `sites` and `split` → `batch`
(tensors). Only `batch` needs torch. docs/cohorts.md describes the format for hospitals.
"""
