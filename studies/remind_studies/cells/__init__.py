"""Cells: single training runs.

This folder and the libraries that it calls contain all code that affects a cell's result.

The key of a cell holds a digest of this whole folder (`code`), so nothing here may import other parts of
`remind_studies`: an edit there would change results and not the key.
"""
