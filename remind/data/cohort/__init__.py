"""Cohorts: declaration, reading, schema, contents."""
