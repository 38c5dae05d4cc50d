"""Backup of a folder in one file, and its restoration."""
