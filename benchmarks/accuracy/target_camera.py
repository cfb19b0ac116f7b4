"""The target camera: far outside the clean source simulator. It only ever makes target windows.

No training row may read this file: a method knows the target through unlabelled windows alone.
"""

from __future__ import annotations

from evdistill_core.simulation.sensor import SensorModel

SENSOR = SensorModel(
    threshold_on=0.60,
    threshold_off=0.40,
    mismatch=0.3,
    refractory_us=1000.0,
    noise_hz=2.0,
    noise_on_fraction=0.3,
    noise_darkness=0.5,
    noise_pairs=0.2,
    hot_fraction=0.003,
    hot_hz=200.0,
    leak_hz=0.5,
    cutoff_hz=30.0,
    knee=0.03,
    gamma=2.2,
    exposure=0.8,
)
