"""A hospital's own trees and linear models. The shared model adds its output to their scores.

See docs/encoders.md, "A hospital's own models".
"""
