"""Simulated windows on disk: a folder of npz shards and an index.

Layout (version 1; 2 where labels hold 254, so that older programs do not misread them; 3 with
instances, so that they do not go on writing shards without)::

    index.json        format, version, request (seed, config, source), classes, sensor size,
                      shards [{file, windows, events}], complete; instances: true, if shards have
                      them; complete_for, the names of the classes that a pixel of the value 254 is
                      not of, if labels hold it
    shard_00000.npz   x, y (N,) uint16, t_us (N,) int64, p (N,) uint8: the events of all windows,
                      offsets (n + 1,) int64: window k has events offsets[k] .. offsets[k + 1],
                      spans_us (n, 2) int64: start and end of each window,
                      images (n, H, W) uint8 and, if labelled, labels (n, H, W) uint8 and
                      instances (n, H, W) uint16, all at the END of the window

Nothing in it depends on the time of day or on the number of workers: the same seed, configuration
and source give the same bytes. Shards and index are each written in one step.
"""

from __future__ import annotations

import bisect
import io
import itertools
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evdistill_core.events.array import Events
from evdistill_core.foundation.errors import DataError
from evdistill_core.foundation.files import atomic_path, write_text_atomic
from evdistill_core.foundation.labels import IGNORE, ClassTable
from evdistill_core.simulation.window import SimulatedWindow

FORMAT = "evdistill-simulated"
VERSION = 1
VERSION_PARTIAL = 2
VERSION_INSTANCES = 3
INDEX = "index.json"
ZIP_TIME = (1980, 1, 1, 0, 0, 0)


class SimulatedSet:
    """Read access to a simulated set.

    Args:
        root: the folder.

    Raises:
        DataError: the folder holds no set, the set is unfinished, or the index is damaged.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = root = Path(root).expanduser()
        index = read_index(root)
        if index is None:
            raise DataError(f"{root} holds no simulated set (no {INDEX}); make one with simulate")
        if not index["complete"]:
            raise DataError(f"{root} is unfinished: run the same simulate command again")
        self.classes = ClassTable.from_dict(index["classes"])
        self.height, self.width = (int(v) for v in index["sensor"])
        self.is_labelled = bool(index["labelled"])
        self.has_instances = bool(index.get("instances", False))
        self.complete_for = tuple(str(name) for name in index.get("complete_for", ()))
        self._files = [str(s["file"]) for s in index["shards"]]
        counts = [int(s["windows"]) for s in index["shards"]]
        self._ends = list(itertools.accumulate(counts))
        self._cached: tuple[int, dict[str, npt.NDArray[Any]]] | None = None

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, i: int) -> SimulatedWindow:
        """Return a window; neighbours are quick, since the last shard stays in memory.

        Raises:
            IndexError: there is no such window.
            DataError: the shard is missing or damaged.
        """
        if not 0 <= i < len(self):
            raise IndexError(f"window {i} of {len(self)}")
        shard = bisect.bisect_right(self._ends, i)
        arrays = self._shard(shard)
        k = i - (self._ends[shard - 1] if shard else 0)
        part = slice(arrays["offsets"][k], arrays["offsets"][k + 1])
        image = arrays["images"][k]
        labels = arrays["labels"][k] if self.is_labelled else np.full_like(image, IGNORE)
        start_us, end_us = (int(t) for t in arrays["spans_us"][k])
        columns = [arrays[name][part] for name in ("x", "y", "t_us", "p")]
        x, y, t_us, p = columns
        events = Events(x, y, t_us, p, self.width, self.height)
        instances = arrays["instances"][k] if self.has_instances else None
        return SimulatedWindow(events, labels, image, start_us, end_us, instances)

    def _shard(self, k: int) -> dict[str, npt.NDArray[Any]]:
        if self._cached is None or self._cached[0] != k:
            path = self.root / self._files[k]
            try:
                with np.load(path, allow_pickle=False) as content:
                    arrays = {name: content[name] for name in content.files}
            except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
                raise DataError(f"{path} is missing or damaged: {error}") from error
            before = self._ends[k - 1] if k else 0
            self._check(path, arrays, self._ends[k] - before)
            self._cached = k, arrays
        return self._cached[1]

    def _check(self, path: Path, arrays: Mapping[str, npt.NDArray[Any]], windows: int) -> None:
        """Refuse a shard whose arrays are not those that the index promises."""
        pixels = (windows, self.height, self.width)
        expected: dict[str, tuple[type, tuple[int | None, ...]]] = {
            "x": (np.uint16, (None,)),
            "y": (np.uint16, (None,)),
            "t_us": (np.int64, (None,)),
            "p": (np.uint8, (None,)),
            "offsets": (np.int64, (windows + 1,)),
            "spans_us": (np.int64, (windows, 2)),
            "images": (np.uint8, pixels),
        }
        if self.is_labelled:
            expected["labels"] = (np.uint8, pixels)
        if self.has_instances:
            expected["instances"] = (np.uint16, pixels)
        for name, (dtype, shape) in expected.items():
            found = arrays.get(name)
            if found is None:
                raise DataError(f"{path} lacks the array {name}: make the set again with simulate")
            fits = len(found.shape) == len(shape) and all(
                want in {None, have} for want, have in zip(shape, found.shape, strict=True)
            )
            if found.dtype != dtype or not fits:
                text = ", ".join("N" if n is None else str(n) for n in shape)
                raise DataError(
                    f"{path}: {name} must be {np.dtype(dtype)} of the shape ({text}), got "
                    f"{found.dtype} {found.shape}"
                )
        offsets, count = arrays["offsets"], len(arrays["t_us"])
        if offsets[0] or offsets[-1] != count or (np.diff(offsets) < 0).any():
            raise DataError(f"{path}: offsets must rise from 0 to its {count} events")
        for name, size in (("x", self.width), ("y", self.height)):
            if len(arrays[name]) != count or (arrays[name] >= size).any():
                raise DataError(f"{path}: {name} must hold {count} numbers in 0..{size - 1}")
        if len(arrays["p"]) != count:
            raise DataError(f"{path}: p must hold {count} numbers")


class SetWriter:
    """Writes a simulated set shard by shard and goes on where it was interrupted.

    Args:
        root: the folder; made when missing.
        request: everything that decides the content (seed, configuration, source).
        classes: of the labels.
        height: rows of the sensor.
        width: columns of the sensor.
        is_labelled: whether windows have labels.
        complete_for: names of the classes that pixels of the value 254 are not of.
        has_instances: whether windows say which thing a pixel shows.
        overwrite: throw away what another request left here.

    Raises:
        DataError: the folder holds a set of another request, or a damaged index.
    """

    def __init__(  # noqa: PLR0913
        self,
        root: Path,
        request: Mapping[str, object],
        classes: ClassTable,
        *,
        height: int,
        width: int,
        is_labelled: bool = True,
        complete_for: Sequence[str] = (),
        has_instances: bool = False,
        overwrite: bool = False,
    ) -> None:
        self.root = root
        # Through JSON and back, so that it compares equal to what an index holds.
        whole = {**request, "instances": True} if has_instances else request
        self._request = json.loads(json.dumps(whole, sort_keys=True))
        partial = VERSION_PARTIAL if complete_for else VERSION
        self._head = {
            "format": FORMAT,
            "version": VERSION_INSTANCES if has_instances else partial,
            "request": self._request,
            "classes": classes.to_dict(),
            "sensor": [height, width],
            "labelled": is_labelled,
        }
        if complete_for:
            self._head["complete_for"] = list(complete_for)
        if has_instances:
            self._head["instances"] = True
        self._has_instances = has_instances
        self._is_labelled = is_labelled
        self._shards: list[dict[str, Any]] = []
        root.mkdir(parents=True, exist_ok=True)
        if overwrite:
            self._clear()
        index = read_index(root)
        if index is not None:
            self._continue(index)

    def has_shard(self, number: int, windows: int) -> bool:
        """Tell whether a shard with that many windows is there already."""
        if number >= len(self._shards) or self._shards[number]["windows"] != windows:
            return False
        path: Path = self.root / str(self._shards[number]["file"])
        return path.is_file()

    def write_shard(self, number: int, windows: Sequence[SimulatedWindow]) -> None:
        """Write shard ``number`` (the next one, or one to be replaced)."""
        name = f"shard_{number:05d}.npz"
        _write_npz(self.root / name, _shard_arrays(windows, self._is_labelled, self._has_instances))
        entry = {
            "file": name,
            "windows": len(windows),
            "events": sum(len(w.events) for w in windows),
        }
        self._shards[number : number + 1] = [entry]
        self._write_index(complete=False)

    def finish(self, shards: int) -> None:
        """Declare the set complete with this many shards; shards beyond them are removed."""
        for entry in self._shards[shards:]:
            (self.root / entry["file"]).unlink(missing_ok=True)
        self._shards = self._shards[:shards]
        self._write_index(complete=True)

    def _continue(self, index: Mapping[str, Any]) -> None:
        old = index["request"]
        names = sorted(k for k in {*old, *self._request} if old.get(k) != self._request.get(k))
        if names:
            raise DataError(
                f"{self.root} holds a set that differs in {', '.join(names)}; choose another "
                "folder or --overwrite"
            )
        self._shards = list(index["shards"])

    def _clear(self) -> None:
        for path in (self.root / INDEX, *sorted(self.root.glob("shard_*.npz"))):
            path.unlink(missing_ok=True)

    def _write_index(self, *, complete: bool) -> None:
        index = {**self._head, "shards": self._shards, "complete": complete}
        write_text_atomic(self.root / INDEX, json.dumps(index, indent=1, sort_keys=True) + "\n")


def write_windows(
    writer: SetWriter,
    make: Callable[[range], Iterable[SimulatedWindow]],
    *,
    count: int,
    windows_per_shard: int,
    on_window: Callable[[int], None] = lambda done: None,
) -> None:
    """Fill a set; shards that are there already are kept.

    Args:
        writer: of the set.
        make: yields the windows of the given numbers in order.
        count: number of windows.
        windows_per_shard: windows in a shard; the last may have fewer.
        on_window: told how many windows are done.
    """
    starts = range(0, count, windows_per_shard)
    for number, start in enumerate(starts):
        numbers = range(start, min(start + windows_per_shard, count))
        if not writer.has_shard(number, len(numbers)):
            windows = []
            for window in make(numbers):
                windows.append(window)
                on_window(start + len(windows))
            writer.write_shard(number, windows)
        on_window(numbers.stop)
    writer.finish(len(starts))


def read_index(root: Path) -> dict[str, Any] | None:
    """Return the index of a set; None when there is none.

    Raises:
        DataError: the file is damaged, or of another format or version.
    """
    path = root / INDEX
    if not path.is_file():
        return None
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is damaged: {error}") from error
    needed = {"request", "classes", "sensor", "labelled", "shards", "complete"}
    if (
        not isinstance(index, dict)
        or index.get("format") != FORMAT
        or index.get("version") not in (VERSION, VERSION_PARTIAL, VERSION_INSTANCES)
        or not needed <= set(index)
    ):
        raise DataError(
            f"{path} is no index of a simulated set of the versions {VERSION} to "
            f"{VERSION_INSTANCES}"
        )
    return index


def _shard_arrays(
    windows: Sequence[SimulatedWindow], is_labelled: bool, has_instances: bool
) -> dict[str, npt.NDArray[Any]]:
    events = Events.concatenate([w.events for w in windows])
    arrays: dict[str, npt.NDArray[Any]] = {
        "x": events.x,
        "y": events.y,
        "t_us": events.t_us,
        "p": events.p,
        "offsets": np.cumsum([0, *(len(w.events) for w in windows)], dtype=np.int64),
        "spans_us": np.array([(w.t_start_us, w.t_end_us) for w in windows], np.int64),
        "images": np.stack([w.image for w in windows]),
    }
    if is_labelled:
        arrays["labels"] = np.stack([w.labels for w in windows])
    if has_instances:
        known = [w.instances for w in windows if w.instances is not None]
        if len(known) < len(windows):
            raise ValueError("a window without instances does not go into a set that has them")
        arrays["instances"] = np.stack(known)
    return arrays


def _write_npz(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    # np.savez stamps every member with the time of day; equal content must be equal bytes.
    with atomic_path(path) as part, zipfile.ZipFile(part, "w") as file:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", ZIP_TIME)
            info.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(info, buffer.getbuffer(), compresslevel=1)
