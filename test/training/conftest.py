"""A run small enough for tests: two synthetic stills, a narrow network."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml


@pytest.fixture
def tiny_run(tmp_path, make_camvid) -> Callable[..., Path]:
    """Return a function that writes stills and an experiment, and gives the YAML's path."""

    def write(**changes: object) -> Path:
        if not (tmp_path / "camvid").exists():
            make_camvid(tmp_path / "camvid", height=72, width=96)
        simulation = {
            "images": {"root": str(tmp_path / "camvid")},
            "height": 32,
            "width": 48,
            "scene": {"moving_camera": 1.0, "moving_things": 0.0, "blur_px": [0.3, 0.4]},
            "unique": 8,
        }
        experiment = {
            "name": "tiny",
            "steps": 12,
            "batch_size": 2,
            "network": {"name": "onboard-seg", "options": {"width": 0.25}},
            "input": {"bins": 2, "window_us": 30_000, "size_multiple": 16},
            "data": {
                "train": [{"name": "stills", "simulation": simulation}],
                "validation": [{"name": "stills", "simulation": simulation, "count": 3}],
            },
            "optimiser": {"lr": 0.003, "warmup_steps": 2},
            "threads": 1,
            "workers": 0,
            "checkpoint_every": 4,
            "validate_every": 0,
        } | changes
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump(experiment), encoding="utf-8")
        return path

    return write
