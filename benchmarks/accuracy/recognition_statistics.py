"""What unlabelled recordings say of their camera, beside the simulators of a configuration.

Run: python benchmarks/accuracy/recognition_statistics.py [--config FILE] [--windows 300]

A simulator is calibrated when its column looks like that of the recordings. Nothing here reads a
label of a recording. The configuration's ``calibrated`` simulator was set by hand from this table.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from recognition import RecognitionSettings

from evdistill_core.data.augment import augment
from evdistill_core.data.build import SourceConfig
from evdistill_core.data.moving_stills import MovingStills
from evdistill_core.data.whole_recordings import read_whole, whole_files
from evdistill_core.events.array import Events
from evdistill_core.foundation.class_maps import named_classes
from evdistill_core.foundation.config import from_mapping, load_yaml

HERE = Path(__file__).resolve().parent
CORNER_PX = 4
LEGS = 3


def main() -> None:
    """Print one column for the recordings and one a simulator."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=HERE / "recognition.yaml")
    parser.add_argument("--windows", type=int, default=300)
    arguments = parser.parse_args()
    content = load_yaml(arguments.config)
    content.pop("task", None)
    settings = from_mapping(RecognitionSettings, content)
    window_us = settings.input.window_us
    files = whole_files(settings.nmnist / "events")[: arguments.windows]
    columns = {"recordings": statistics((_from_zero(path, window_us) for path in files), window_us)}
    for name, source in settings.simulators.items():
        windows = simulated(source, settings, arguments.windows)
        columns[name] = statistics(windows, window_us)
    print(f"| of {arguments.windows} windows | {' | '.join(columns)} |")
    print("|---" * (1 + len(columns)) + "|")
    for key in columns["recordings"]:
        print(f"| {key} | {' | '.join(f'{c[key]:.2f}' for c in columns.values())} |")


def simulated(source: SourceConfig, settings: RecognitionSettings, count: int) -> Iterable[Events]:
    """Yield windows of a simulator as the student gets them, augmentation included."""
    assert source.moving_stills is not None  # the settings refuse others
    classes = named_classes(tuple("0123456789"))
    windows = MovingStills(source.moving_stills, settings.input, classes, seed=0)
    rng = np.random.default_rng(0)
    for number in range(count):
        window = windows.window(number)
        span_us = (window.t_start_us, window.t_end_us)
        if source.augment is None:
            yield window.events
        else:
            yield augment(window.events, window.labels, source.augment, rng, span_us=span_us)[0]


def statistics(windows: Iterable[Events], window_us: int) -> dict[str, float]:
    """Return means over windows whose events start at time 0.

    Args:
        windows: of moving digits.
        window_us: length of a window; a saccade is a third of it.

    Returns:
        By name. "p = 0 ahead" is how far the mean place of the events with p = 0 lies from that of
        those with p = 1 during a saccade: it points where bright digits go if p = 0 is ON, and
        backwards if it is OFF. "peak" is the rate in the busiest tenth of a saccade beside its
        mean: 1 for a constant speed.
    """
    rows = [_of_window(events, window_us) for events in windows if len(events)]
    with np.errstate(invalid="ignore"):
        return {key: float(np.nanmean([row[key] for row in rows])) for key in rows[0]}


def _of_window(events: Events, window_us: int) -> dict[str, float]:
    counts = np.zeros((events.height, events.width))
    np.add.at(counts, (events.y, events.x), 1)
    # One event may be noise.
    drawn = counts[counts > 1]
    rows, columns = np.nonzero(counts > 1)
    # A digit may reach a corner of one window or another; the quietest is without.
    near, far = slice(0, CORNER_PX), slice(-CORNER_PX, None)
    corners = [counts[a, b].mean() for a in (near, far) for b in (near, far)]
    figures = {
        "events": float(len(events)),
        "share of p = 1": float(events.p.mean()),
        "lit pixels, %": 100.0 * len(drawn) / counts.size,
        "events of a lit pixel, median": _of(np.median, drawn),
        "the same, 99th percentile": _of(lambda v: np.percentile(v, 99), drawn),
        "spread of lit columns, px": _of(np.std, columns),
        "spread of lit rows, px": _of(np.std, rows),
        "noise in the quietest corner, Hz": float(min(corners)) / (window_us * 1e-6),
        "share of p = 1 in corners": _of(np.mean, events.p[_in_corners(events)]),
    }
    leg_us = window_us / LEGS
    for leg in range(LEGS):
        during = (events.t_us >= leg * leg_us) & (events.t_us < (leg + 1) * leg_us)
        for name, values in (("columns", events.x), ("rows", events.y)):
            sides = [values[during & (events.p == p)] for p in (0, 1)]
            ahead = _of(np.mean, sides[0]) - _of(np.mean, sides[1])
            figures[f"p = 0 ahead in saccade {leg + 1}, {name}"] = ahead
        share = (events.t_us[during] - leg * leg_us) / leg_us
        tenths = np.histogram(share, bins=10, range=(0.0, 1.0))[0]
        figures[f"peak of saccade {leg + 1}"] = tenths.max() / max(tenths.mean(), 1e-9)
    return figures


def _in_corners(events: Events) -> npt.NDArray[np.bool_]:
    def outer(values: npt.NDArray[np.uint16], size: int) -> npt.NDArray[np.bool_]:
        return (values < CORNER_PX) | (values >= size - CORNER_PX)

    return np.asarray(outer(events.x, events.width) & outer(events.y, events.height))


def _of(figure: object, values: npt.NDArray[np.generic]) -> float:
    assert callable(figure)
    return float(figure(values)) if len(values) else float("nan")


def _from_zero(path: Path, window_us: int) -> Events:
    events, t_start_us = read_whole(path, window_us)
    t_us = events.t_us - t_start_us
    return Events(events.x, events.y, t_us, events.p, events.width, events.height)


if __name__ == "__main__":
    main()
