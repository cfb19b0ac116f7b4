"""Readers: one file a format; ``recordings.opening`` chooses among them."""
