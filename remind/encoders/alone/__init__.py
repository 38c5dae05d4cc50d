"""What a hospital knows alone: trees and linear models of its own, whose scores the common model begins with.

docs/encoders.md, "What a hospital knows alone".
"""
