"""Yardsticks: what hospitals can do without REMIND, with trees and linear models on summary features.

The digest of this folder is part of the keys of cells (`cells.code`), so it imports nothing else of `remind_studies`.
"""
