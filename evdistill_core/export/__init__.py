"""Checkpoint to student file, with parity checked."""
