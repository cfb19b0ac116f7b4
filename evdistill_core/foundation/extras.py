"""Libraries that an extra of the package brings, and the command that installs it."""

from __future__ import annotations

from collections.abc import Mapping

#: Modules by extra, as ``extras_require`` in setup.py has them.
EXTRAS: Mapping[str, tuple[str, ...]] = {
    "train": ("torch", "lightning_fabric", "onnx", "onnxscript", "tensorboard"),
    "hdf5": ("h5py", "hdf5plugin"),
    "rosbag1": ("rosbags",),
    "inivation": ("dv_processing",),
    "dds": ("cyclonedds",),
    "openvino": ("openvino",),
    "view": ("aiohttp",),
    "rerun": ("rerun",),
    "foxglove": ("foxglove",),
}


def install_command(extra: str) -> str:
    """Return the command that installs an extra."""
    return f'pip install "evdistill_ros[{extra}]"'


def extra_of(module: str) -> str | None:
    """Return the extra that brings a module or a submodule of it; None if no extra does."""
    top = module.partition(".")[0]
    return next((extra for extra, modules in EXTRAS.items() if top in modules), None)
