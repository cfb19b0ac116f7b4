"""Recordings: one way to open any of them, and writers."""
