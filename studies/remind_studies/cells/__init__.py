"""Cells: single training runs. Everything that decides what a cell's result is lies here or in the libraries it calls.

The key of a cell holds a digest of this whole folder (`code`), so nothing here may import other parts of
`remind_studies`: an edit there would change results and not the key.
"""
