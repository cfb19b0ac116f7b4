"""Label-free perception for event cameras: recordings, windows, students, training.

::

    import evdistill_core as evdistill

    student = evdistill.Student.load()
    for result in student.predict("street.mcap"):
        print(result)

Every name below is imported when it is first used: ``import evdistill_core`` itself loads nothing,
and torch is only loaded by names that need it (``WindowDataset``, ``evaluate``, ``train``,
``export_student``).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from evdistill_core.foundation.kernel_cache import choose_kernel_cache
from evdistill_core.foundation.version import VERSION

__version__ = VERSION
choose_kernel_cache()  # before any module of ours imports numba

if TYPE_CHECKING:
    from evdistill_core.data.scoring import evaluate
    from evdistill_core.data.window_dataset import WindowDataset
    from evdistill_core.events.account import EventAccount
    from evdistill_core.events.array import Events, Triggers
    from evdistill_core.events.window import Window, WindowAssembler, WindowSpec
    from evdistill_core.export.student import export_checkpoint as export_student
    from evdistill_core.foundation.errors import EvdistillError
    from evdistill_core.foundation.labels import ClassInfo, ClassTable
    from evdistill_core.foundation.plugins import allow as allow_plugins
    from evdistill_core.inference.prediction import Detection, Guess
    from evdistill_core.perception.result import Result
    from evdistill_core.perception.student import Results, Stream, Student
    from evdistill_core.recordings.base import EventBatch, Frame, Recording, RecordingInfo
    from evdistill_core.recordings.convert import convert_file as convert
    from evdistill_core.recordings.opening import open_recording
    from evdistill_core.recordings.sinks import create_recording
    from evdistill_core.representations import InputSpec, represent
    from evdistill_core.simulation.dataset import SimulatedSet
    from evdistill_core.training.stages import train

__all__ = [
    "ClassInfo",
    "ClassTable",
    "Detection",
    "EvdistillError",
    "EventAccount",
    "EventBatch",
    "Events",
    "Frame",
    "Guess",
    "InputSpec",
    "Recording",
    "RecordingInfo",
    "Result",
    "Results",
    "SimulatedSet",
    "Stream",
    "Student",
    "Triggers",
    "Window",
    "WindowAssembler",
    "WindowDataset",
    "WindowSpec",
    "__version__",
    "allow_plugins",
    "convert",
    "create_recording",
    "evaluate",
    "export_student",
    "open_recording",
    "represent",
    "train",
]

# Public name -> module and name there.
_HOMES = {
    "ClassInfo": "foundation.labels:ClassInfo",
    "ClassTable": "foundation.labels:ClassTable",
    "Detection": "inference.prediction:Detection",
    "EvdistillError": "foundation.errors:EvdistillError",
    "EventAccount": "events.account:EventAccount",
    "EventBatch": "recordings.base:EventBatch",
    "Events": "events.array:Events",
    "Frame": "recordings.base:Frame",
    "Guess": "inference.prediction:Guess",
    "InputSpec": "representations:InputSpec",
    "Recording": "recordings.base:Recording",
    "RecordingInfo": "recordings.base:RecordingInfo",
    "Result": "perception.result:Result",
    "Results": "perception.student:Results",
    "SimulatedSet": "simulation.dataset:SimulatedSet",
    "Stream": "perception.student:Stream",
    "Student": "perception.student:Student",
    "Triggers": "events.array:Triggers",
    "Window": "events.window:Window",
    "WindowAssembler": "events.window:WindowAssembler",
    "WindowDataset": "data.window_dataset:WindowDataset",
    "WindowSpec": "events.window:WindowSpec",
    "allow_plugins": "foundation.plugins:allow",
    "convert": "recordings.convert:convert_file",
    "create_recording": "recordings.sinks:create_recording",
    "evaluate": "data.scoring:evaluate",
    "export_student": "export.student:export_checkpoint",
    "open_recording": "recordings.opening:open_recording",
    "represent": "representations:represent",
    "train": "training.stages:train",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for (PEP 562).

    Raises:
        AttributeError: there is no such name.
        ImportError: a library that it needs is not installed; the message says how to get it.
    """
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(
            f"module {__name__!r} has no attribute {name!r}; public names: {', '.join(__all__)}"
        )
    module, attribute = home.split(":")
    try:
        found = getattr(importlib.import_module(f"{__name__}.{module}"), attribute)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == __name__:
            raise
        raise ImportError(
            f"{name} needs the library {error.name}, which is not installed: "
            'pip install "evdistill_ros[train]"'
        ) from error
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Return the public names, for completion."""
    return sorted({*globals(), *__all__})
