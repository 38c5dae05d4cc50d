"""Checks of a cohort, their report, and pictures of the cohort."""
