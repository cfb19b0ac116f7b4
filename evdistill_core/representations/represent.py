"""Events of one window -> the student's input, on the CPU without torch."""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt

from evdistill_core.events.array import Events
from evdistill_core.events.window import Window
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.representations.building import InputBuilder
from evdistill_core.representations.spec import InputSpec


def represent(
    events: Events | Window,
    spec: InputSpec,
    t_start_us: int | None = None,
    t_end_us: int | None = None,
    *,
    out: npt.NDArray[np.float32] | None = None,
) -> npt.NDArray[np.float32]:
    """Return the input that a student is fed for one window.

    The values depend on the normalisation:

    - "fixed": within -clip .. clip. A cell that joins factor x factor sensor pixels holds
      their mean, so that the same scene looks alike to large and small sensors.
    - "maximum", "robust": multiples of 1/255 in 0 .. 1.
    - "nonzero": the non-zero cells have mean 0 and deviation 1. If the deviation is 0, as for
      a single event, only the mean is subtracted.
    - "none": what the representation itself makes.

    Args:
        events: a window, or N >= 0 events of it in any order. Not modified.
        spec: kind, normalisation and size.
        t_start_us: start of the window, microseconds of sensor time; None: that of the Window.
        t_end_us: end of the window (exclusive), above the start; None: that of the Window.
        out: where to write; (C, H, W) float32, C-contiguous. None: a new array.

    Returns:
        ``spec.shape(height, width)`` float32. Padding cells, and all cells of an empty window, are
        zero.

    Raises:
        ConfigError: ``spec`` is no InputSpec.
        ValueError: the window is empty or backwards, its times are not known, or ``out`` does not
            fit.
    """
    if not isinstance(spec, InputSpec):
        raise ConfigError(
            f"represent takes an InputSpec, for example student.input, got {type(spec).__name__}"
        )
    if isinstance(events, Window):
        t_start_us = events.t_start_us if t_start_us is None else t_start_us
        t_end_us = events.t_end_us if t_end_us is None else t_end_us
        events = events.events
    if t_start_us is None or t_end_us is None:
        raise ValueError("give t_start_us and t_end_us with Events, or a Window instead of them")
    if spec.background_filter is not None and not events.in_order:
        events = events[np.argsort(events.t_us, kind="stable")]
    # Taken out while in use: a plugin's representation may call this function again.
    builder, _workspace.builder = _workspace.builder or InputBuilder(), None
    builder.start(
        spec, height=events.height, width=events.width,
        t_start_us=t_start_us, t_end_us=t_end_us, out=out,
    )  # fmt: skip
    builder.add(events)
    made = builder.finish()
    _workspace.builder = builder
    return made


class _Workspace(threading.local):
    """One builder for each thread, for its room in memory."""

    def __init__(self) -> None:
        self.builder: InputBuilder | None = None


_workspace = _Workspace()
