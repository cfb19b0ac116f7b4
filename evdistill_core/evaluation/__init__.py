"""Confusion, IoU, reports with pictures."""
