"""Labelled images, simulated and recorded windows as training data."""
