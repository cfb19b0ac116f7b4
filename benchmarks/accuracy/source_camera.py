"""The two source simulators: one clean camera with narrow spread, and wide randomisation.

Neither knows the target camera, which stands in ``target_camera.py`` and is read by nothing but
the code that makes target windows.
"""

from __future__ import annotations

from evdistill_core.simulation.sensor import SensorRanges

# Thresholds of about .2, hardly any noise, no low pass: what a careful simulation assumes.
CLEAN = SensorRanges(
    threshold=(0.18, 0.22),
    on_off_ratio=(0.95, 1.05),
    mismatch=(0.02, 0.04),
    refractory_us=(50.0, 100.0),
    noise_hz=(0.001, 0.01),
    noise_on_fraction=(0.5, 0.5),
    noise_darkness=(0.0, 0.0),
    noise_pairs=(0.0, 0.0),
    hot_fraction=(0.0, 0.0),
    leak_hz=(0.001, 0.01),
    cutoff_probability=0.0,
    knee=(0.02, 0.02),
    gamma=(2.2, 2.2),
    exposure=(1.0, 1.0),
)

# The project's own ranges: what a user who knows nothing of his camera would take.
WIDE = SensorRanges()
