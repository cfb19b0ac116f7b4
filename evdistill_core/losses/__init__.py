"""Losses: one function each, and one weighted sum of them by name."""
