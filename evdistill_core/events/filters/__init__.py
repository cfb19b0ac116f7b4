"""Filters between decoding and windows: hot pixels, refractory time, background activity, rate."""

from evdistill_core.events.filters.chain import EventFilters, FilterConfig, FilterCounters
from evdistill_core.events.filters.hot_pixels import HotPixelLearner, HotPixels

__all__ = ["EventFilters", "FilterConfig", "FilterCounters", "HotPixelLearner", "HotPixels"]
