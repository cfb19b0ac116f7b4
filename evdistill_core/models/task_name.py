"""What a network is for."""

from __future__ import annotations

from typing import Literal

TaskName = Literal["segmentation", "recognition"]
"""Segmentation: a class for each pixel, and boxes. Recognition: a class for the whole window."""
