"""What stands in the masks of a user: a class file to fill in, and a check of a filled one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evdistill_core.data.masks import (
    NAMED_IN_ERRORS,
    UnknownValuesError,
    Value,
    counted,
    read_mask,
    value_text,
)
from evdistill_core.data.yolo_segmentation import read_polygons
from evdistill_core.foundation.errors import DataError
from evdistill_core.foundation.labels import IGNORE, OTHER, ClassTable

SAMPLE = 64  # files that are read for a skeleton
MOST_VALUES = 48  # more are no classes: instance numbers, or colours that were smoothed
THREADS = 4
PIXEL, POLYGON = "pixel", "polygon"


@dataclass(frozen=True)
class MaskSurvey:
    """The values in a sample of masks.

    Attributes:
        counts: pixels (or polygons) of every value.
        files: masks that hold a value.
        read: how many masks were read.
        total: how many there are.
        unit: what ``counts`` counts, one of them.
    """

    counts: Counter[Value]
    files: Counter[Value]
    read: int
    total: int
    unit: str

    def summary(self) -> str:
        """Return the most frequent values in a line."""
        whole = max(1, self.counts.total())
        rows = self.counts.most_common(NAMED_IN_ERRORS)
        shown = ", ".join(f"{value_text(v)} ({n / whole:.1%})" for v, n in rows)
        left = len(self.counts) - len(rows)
        more = f" and {left} more" if left else ""
        return f"{shown}{more} of the {self.unit}s in {self.read} of {self.total} files"


def survey_masks(paths: Sequence[Path], *, limit: int = SAMPLE) -> MaskSurvey:
    """Count the values in label images, at most ``limit`` of them, evenly spread over the list.

    Raises:
        DataError: a mask cannot be read.
    """

    def values_in(path: Path) -> dict[Value, int]:
        return read_mask(path, has_ids=False, has_colors=False).counts()

    found = _survey(paths, values_in, limit, PIXEL)
    colors = [v for v in found.counts if not isinstance(v, int)]
    if len(colors) == len(found.counts) and all(r == g == b for r, g, b in colors):
        # Ids in three equal channels: they are read as ids too.
        ids = [Counter({v[0]: n for v, n in c.items() if not isinstance(v, int)})
               for c in (found.counts, found.files)]  # fmt: skip
        return MaskSurvey(Counter(ids[0]), Counter(ids[1]), found.read, found.total, found.unit)
    return found


def survey_polygons(paths: Sequence[Path]) -> MaskSurvey:
    """Count the class numbers in all of these label files of polygons.

    Raises:
        DataError: a file is damaged.
    """

    def values_in(path: Path) -> dict[Value, int]:
        return dict(Counter(p.number for p in read_polygons(path)))

    return _survey(paths, values_in, len(paths), POLYGON)


def _survey(
    paths: Sequence[Path], values_in: Callable[[Path], dict[Value, int]], limit: int, unit: str
) -> MaskSurvey:
    count = min(limit, len(paths))
    chosen = [paths[i * len(paths) // count] for i in range(count)]
    counts: Counter[Value] = Counter()
    files: Counter[Value] = Counter()
    with ThreadPoolExecutor(THREADS) as pool:
        for found in pool.map(values_in, chosen):
            counts.update(found)
            files.update(found.keys())
    return MaskSurvey(counts, files, count, len(paths), unit)


def class_file_skeleton(survey: MaskSurvey, what: str) -> str:
    """Return a class file with a class for every value and names to fill in.

    Args:
        survey: of the masks.
        what: which masks, for the comment at the top.
    """
    whole = max(1, survey.counts.total())
    rows = sorted(survey.counts.items(), key=lambda row: (not isinstance(row[0], int), row[0]))
    lines = [
        f"# Classes of {what}: the values found in {survey.read} of {survey.total} files.",
        "# Give every class a name. Set thing: true where single objects shall become boxes.",
        "# Values without a class go to ignore. Classes may be joined: ids: [3, 4].",
        "# All keys: docs/how-to/classes.md",
        "classes:",
    ]
    ignored: list[Value] = []
    if survey.unit == POLYGON:
        lines.insert(
            3, "# Numbers that you do not want: remove their classes, and set ignore: rest"
        )
    elif len(rows) > MOST_VALUES:
        lines.insert(1, f"# {len(rows)} values are no classes: are these instance masks, or "
                        "smoothed colours?")  # fmt: skip
        common = {value for value, _ in survey.counts.most_common(MOST_VALUES)}
        rows = [row for row in rows if row[0] in common]
    for value, count in rows:
        if value == IGNORE and len(rows) > 2:
            ignored.append(value)
            continue
        key = "ids" if isinstance(value, int) else "colors"
        text = value_text(value) if isinstance(value, int) else f'"{value_text(value)}"'
        share = f"{count / whole:.1%} of the {survey.unit}s"
        where = counted(survey.files[value], "file")
        is_thing = str(survey.unit == POLYGON).lower()
        lines += [f'  - name: ""  # {share}, in {where}', f"    thing: {is_thing}"]
        lines.append(f"    {key}: [{text}]")
    lines.append(f"ignore: [{', '.join(map(str, ignored))}]")
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class LabelShares:
    """How often every class stands in the labels that will be learnt.

    Attributes:
        classes: names.
        pixels: (K + 2,) pixels of every class; the last two values: none of the classes that the
            set marks completely (254), and ignored (255).
        images: (K + 2,) images that hold it.
        total: how many images there are.
    """

    classes: ClassTable
    pixels: npt.NDArray[np.int64]
    images: npt.NDArray[np.int64]
    total: int

    @property
    def absent(self) -> tuple[str, ...]:
        """Names of the classes that no image holds."""
        return tuple(n for n, k in zip(self.classes.names, self.images, strict=False) if not k)


def check_labels(
    read_label: Callable[[int], npt.NDArray[np.uint8]],
    count: int,
    classes: ClassTable,
    *,
    on_image: Callable[[int], None] = lambda done: None,
) -> LabelShares:
    """Read all labels before anything is trained with them.

    Args:
        read_label: (H, W) uint8 class ids, 254 or 255 by number.
        count: how many there are.
        classes: what the ids mean.
        on_image: told how many are read.

    Raises:
        DataError: labels are damaged, or hold values without a meaning: the message lists these
            with their pixels and files.
    """
    pixels = np.zeros(len(classes) + 2, np.int64)
    images = np.zeros_like(pixels)
    unknown = _Unknown()

    def count_in(number: int) -> npt.NDArray[np.int64] | UnknownValuesError:
        try:
            label = read_label(number)
        except UnknownValuesError as error:
            return error
        counts = np.bincount(label.ravel(), minlength=256)
        return np.append(counts[: len(classes)], counts[[OTHER, IGNORE]]).astype(np.int64)

    with ThreadPoolExecutor(THREADS) as pool:
        for done, found in enumerate(pool.map(count_in, range(count)), 1):
            if isinstance(found, UnknownValuesError):
                unknown.add(found)
            else:
                pixels += found
                images += found > 0
            on_image(done)
    unknown.check(count)
    return LabelShares(classes, pixels, images, count)


class _Unknown:
    """Values without a meaning, over all files."""

    def __init__(self) -> None:
        self._counts: Counter[Value] = Counter()
        self._files: Counter[Value] = Counter()
        self._first: dict[Value, Path] = {}
        self._errors: list[UnknownValuesError] = []

    def add(self, error: UnknownValuesError) -> None:
        self._errors.append(error)
        self._counts.update(error.counts)
        self._files.update(error.counts.keys())
        for value in error.counts:
            self._first.setdefault(value, error.path)

    def check(self, count: int) -> None:
        if not self._errors:
            return
        unit = self._errors[0].unit
        rows = [
            f"{value_text(v)} ({counted(n, unit)} in {counted(self._files[v], 'file')}, first "
            f"{self._first[v]})"
            for v, n in self._counts.most_common(NAMED_IN_ERRORS)
        ]
        left = len(self._counts) - len(rows)
        raise DataError(
            f"{len(self._errors)} of {count} label files hold values without a meaning: "
            f"{', '.join(rows)}{f' and {left} values more' if left else ''}; "
            f"{self._errors[0].meaning}"
        )
