"""Labelled images, simulated windows and how they become batches."""
